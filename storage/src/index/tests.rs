//! The index against a model, through merges and restarts, and against damaged files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

const LOG: &str = "11111111-2222-3333-4444-555555555555";

type Small = [u8; 4];
type Model = BTreeMap<u128, BTreeSet<Small>>;

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// A key as a hash would make it (splitmix64, twice).
fn key(number: u64) -> u128 {
    let mix = |number: u64| {
        let mut mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    (u128::from(mix(number)) << 64) | u128::from(mix(!number))
}

fn entries(numbers: std::ops::Range<u64>, value: u32) -> Vec<(u128, Small)> {
    numbers.map(|number| (key(number), value.to_be_bytes())).collect()
}

fn open(directory: &Path) -> Runs<4> {
    Runs::open(directory, LOG).expect("opens")
}

fn values(view: &View<4>, key: u128) -> Result<Vec<Small>, Error> {
    let mut values = Vec::new();
    view.each(key, |value| {
        values.push(*value);
        ControlFlow::Continue(())
    })?;
    Ok(values)
}

fn run_files(directory: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(directory).expect("listed").map(|file| file.expect("listed").path());
    let mut runs: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|name| name == "run")).collect();
    runs.sort();
    runs
}

fn check(index: &Runs<4>, model: &Model, numbers: std::ops::Range<u64>) {
    let view = index.view();
    for number in numbers {
        let found = values(&view, key(number)).expect("read");
        let expected = model.get(&key(number)).cloned().unwrap_or_default();
        assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), expected, "key {number}");
        assert_eq!(view.first(key(number)).expect("read"), found.first().copied());
    }
}

#[derive(Clone, Debug)]
enum Step {
    Add { first: u64, count: u64, value: u32 },
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let count = prop_oneof![4 => 0..300_u64, 1 => 1_000..6_000_u64];
    prop_oneof![
        6 => (0..2_000_u64, count, 0..4_u32).prop_map(|(first, count, value)| Step::Add { first, count, value }),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_answers_like_a_map(steps in proptest::collection::vec(step(), 1..24)) {
        let directory = directory();
        let mut index = open(directory.path());
        let mut model = Model::new();
        let mut until = None;
        for (offset, step) in (0..).zip(steps) {
            match step {
                Step::Add { first, count, value } => {
                    let batch = entries(first..first + count, value);
                    for (key, value) in &batch {
                        model.entry(*key).or_default().insert(*value);
                    }
                    index.add(batch, Offset(offset), 0).expect("added");
                    until = Some(Offset(offset));
                }
                Step::Reopen => {
                    drop(index);
                    index = open(directory.path());
                }
            }
            prop_assert_eq!(index.until(), until);
        }
        check(&index, &model, 0..8_100);
        prop_assert_eq!(run_files(directory.path()).len(), index.runs.len(), "a file for each run and no other");
    }
}

#[test]
fn every_value_of_a_key_is_found_across_blocks() {
    let directory = directory();
    let mut index = open(directory.path());
    let mut batch = entries(0..5_000, 7);
    batch.extend((0..2_000_u32).rev().map(|value| (key(42), value.to_be_bytes())));
    // The same first eight bytes as key 42, one below and one above.
    batch.extend([(key(42) - 1, [1; 4]), (key(42) + 1, [2; 4])]);
    index.add(batch, Offset(9), 0).expect("added");
    let expected: Vec<Small> = (0..2_000_u32).map(u32::to_be_bytes).collect();
    let view = index.view();
    assert_eq!(values(&view, key(42)).expect("read"), expected);
    assert_eq!(values(&view, key(42) - 1).expect("read"), [[1; 4]]);
    assert_eq!(values(&view, key(42) + 1).expect("read"), [[2; 4]]);
    assert!(values(&view, key(42) + 2).expect("read").is_empty());
    for extreme in [0, u128::MAX] {
        assert!(values(&view, extreme).expect("read").is_empty());
    }
}

#[test]
fn the_values_of_a_key_come_in_the_order_of_the_log() {
    let directory = directory();
    let mut index = open(directory.path());
    for offset in 0..40_u32 {
        let mut batch = entries(u64::from(offset) * 1_000..u64::from(offset + 1) * 1_000, 0);
        batch.push((key(u64::MAX), offset.to_be_bytes()));
        index.add(batch, Offset(u64::from(offset)), 0).expect("added");
    }
    assert!(index.runs.len() > 1, "there is more than one run to look into");
    let expected: Vec<Small> = (0..40_u32).map(u32::to_be_bytes).collect();
    assert_eq!(values(&index.view(), key(u64::MAX)).expect("read"), expected);
}

#[test]
fn runs_of_similar_size_are_merged() {
    let mut runs: Vec<u64> = Vec::new();
    let mut written = 0;
    for _ in 0..2_000 {
        let first = merge::first_to_merge(&runs, 50_000);
        let merged = runs.drain(first..).sum::<u64>() + 50_000;
        runs.push(merged);
        written += merged;
        assert!(runs.len() <= 20, "{runs:?}");
    }
    assert_eq!(runs.iter().sum::<u64>(), 100_000_000);
    assert!(written < 700_000_000, "each entry is written a few times only: {written}");
    assert!(runs.iter().all(|entries| *entries <= 1 << 25));
    // Small additions are gathered before they are merged by size.
    assert_eq!(merge::first_to_merge(&[10_000, 3_500, 1_000], 10), 2);
    assert_eq!(merge::first_to_merge(&[10_000, 3_000, 1_000], 10), 1);
}

#[test]
fn a_view_outlives_a_merge_and_a_clearing() {
    let directory = directory();
    let mut index = open(directory.path());
    index.add(entries(0..1_000, 1), Offset(1), 0).expect("added");
    let (view, before) = (index.view(), run_files(directory.path()));
    index.add(entries(0..1_000, 2), Offset(2), 0).expect("added");
    assert!(!before[0].exists(), "the run was merged away");
    index.clear().expect("cleared");
    assert_eq!(values(&view, key(5)).expect("read"), [1_u32.to_be_bytes()]);
    assert!(values(&index.view(), key(5)).expect("read").is_empty());
    assert_eq!((index.until(), index.entries(), index.memory_bytes()), (None, 0, 0));
    assert!(run_files(directory.path()).is_empty());
    assert!(View::<4>::empty().first(key(5)).expect("read").is_none());
}

#[test]
fn the_offset_never_goes_back_and_moves_without_entries() {
    let directory = directory();
    let mut index = open(directory.path());
    assert_eq!(index.until(), None);
    index.add(Vec::new(), Offset(3), 0).expect("moved");
    index.add(Vec::new(), Offset(5), 0).expect("moved");
    assert!(matches!(index.add(entries(0..1, 0), Offset(4), 0), Err(Error::Conflict(_))));
    assert!(matches!(index.fill(entries(0..1, 0), Offset(6), 0), Err(Error::Conflict(_))));
    assert_eq!(index.entries(), 0);
    drop(index);
    assert_eq!(open(directory.path()).until(), Some(Offset(5)));
}

#[test]
fn an_index_that_was_not_filled_to_the_end_is_thrown_away() {
    let directory = directory();
    let mut index = open(directory.path());
    index.fill(entries(0..9_000, 1), Offset(70), 5).expect("filled");
    index.fill(entries(9_000..18_000, 1), Offset(30), 9).expect("filled");
    assert_eq!(index.until(), None);
    drop(index);
    let mut index = open(directory.path());
    assert_eq!((index.until(), index.entries()), (None, 0));
    assert!(run_files(directory.path()).is_empty());
    index.fill(entries(0..9_000, 1), Offset(70), 5).expect("filled");
    index.fill(entries(9_000..40_000, 1), Offset(30), 9).expect("filled");
    index.add(Vec::new(), Offset(80), 0).expect("added");
    assert_eq!(index.until(), None, "it lacks what it had before");
    index.complete(Offset(80)).expect("finished");
    drop(index);
    let mut index = open(directory.path());
    assert_eq!((index.until(), index.entries()), (Some(Offset(80)), 40_000));
    assert_eq!(run_files(directory.path()).len(), 1, "both are one run, of the highest offset and stamp of both");
    index.forget(|until, stamp| until < Offset(70) || stamp < 9).expect("nothing to do");
    assert_eq!(index.entries(), 40_000);
}

#[test]
fn whole_runs_are_forgotten_by_offset_and_stamp() {
    let directory = directory();
    let mut index = open(directory.path());
    // Too large to be merged with what comes behind.
    index.add(entries(0..20_000, 1), Offset(10), 900).expect("added");
    index.add(entries(20_000..21_000, 2), Offset(20), 100).expect("added");
    index.add(entries(21_000..22_000, 3), Offset(30), 50).expect("added");
    assert_eq!(run_files(directory.path()).len(), 2, "the second and the third are one");
    index.forget(|_, _| false).expect("nothing to do");
    assert_eq!(index.entries(), 22_000);
    index.forget(|until, stamp| until == Offset(30) && stamp == 100).expect("forgotten");
    assert_eq!((index.entries(), index.until()), (20_000, Some(Offset(30))));
    drop(index);
    let mut index = open(directory.path());
    assert!(values(&index.view(), key(20_500)).expect("read").is_empty());
    assert_eq!(values(&index.view(), key(7)).expect("read"), [1_u32.to_be_bytes()]);
    index.forget(|until, stamp| until == Offset(10) && stamp == 900).expect("forgotten");
    assert_eq!((index.entries(), index.until()), (0, Some(Offset(30))));
    assert!(run_files(directory.path()).is_empty());
}

#[test]
fn another_log_or_another_size_begins_anew() {
    let directory = directory();
    let mut index = open(directory.path());
    index.add(entries(0..100, 1), Offset(1), 0).expect("added");
    drop(index);
    let other = Runs::<4>::open(directory.path(), "another log").expect("opens");
    assert_eq!((other.until(), other.entries()), (None, 0));
    assert!(run_files(directory.path()).is_empty());
    drop(other);
    let mut index = open(directory.path());
    assert_eq!(index.until(), None);
    index.add(entries(0..100, 1), Offset(1), 0).expect("added");
    drop(index);
    assert_eq!(Runs::<8>::open(directory.path(), LOG).expect("opens").until(), None);
}

#[test]
fn what_no_manifest_names_is_removed() {
    let directory = directory();
    let mut index = open(directory.path());
    index.add(entries(0..100, 1), Offset(1), 0).expect("added");
    let run = run_files(directory.path()).remove(0);
    drop(index);
    for stray in ["000000000002.run", "000000000999.run", "manifest.json.tmp"] {
        std::fs::copy(&run, directory.path().join(stray)).expect("copied");
    }
    let mut index = open(directory.path());
    assert_eq!(run_files(directory.path()), [run]);
    assert!(!directory.path().join("manifest.json.tmp").exists());
    index.add(entries(100..10_000, 1), Offset(2), 0).expect("added");
    assert_eq!(index.entries(), 10_000);
}

/// A directory with one run of some blocks, and its files as bytes.
fn intact() -> (TempDir, Vec<u8>, Vec<u8>) {
    let directory = directory();
    let mut index = open(directory.path());
    index.add(entries(0..500, 7), Offset(12), 0).expect("added");
    let run = std::fs::read(&run_files(directory.path())[0]).expect("read");
    let manifest = std::fs::read(directory.path().join("manifest.json")).expect("read");
    (directory, run, manifest)
}

fn write_files(directory: &Path, run: &[u8], manifest: &[u8]) {
    std::fs::write(directory.join("000000000001.run"), run).expect("written");
    std::fs::write(directory.join("manifest.json"), manifest).expect("written");
}

/// Opens what was damaged: every answer is right or an error, unless the whole index is thrown away. Returns
/// whether the damage was seen at all.
fn is_seen(directory: &Path) -> bool {
    let index = open(directory);
    if index.until().is_none() {
        assert_eq!(index.entries(), 0);
        assert!(run_files(directory).is_empty());
        return true;
    }
    assert_eq!(index.until(), Some(Offset(12)));
    let view = index.view();
    let mut errors = 0;
    for number in 0..1_000 {
        match values(&view, key(number)) {
            Ok(values) if number < 500 => assert_eq!(values, [7_u32.to_be_bytes()], "key {number}"),
            Ok(values) => assert!(values.is_empty(), "key {number}"),
            Err(error) => {
                assert!(matches!(error, Error::Corrupt(_)), "{error}");
                errors += 1;
            }
        }
    }
    errors > 0
}

#[test]
fn a_flipped_bit_is_never_a_wrong_answer() {
    let (directory, run, manifest) = intact();
    for at in (0..run.len()).filter(|at| *at < 128 || at % 29 == 0 || at + 40 > run.len()) {
        let mut damaged = run.clone();
        damaged[at] ^= 1 << (at % 8);
        write_files(directory.path(), &damaged, &manifest);
        assert!(is_seen(directory.path()), "byte {at} of the run");
    }
    for at in 0..manifest.len() {
        let mut damaged = manifest.clone();
        damaged[at] ^= 1 << (at % 6);
        write_files(directory.path(), &run, &damaged);
        // White space may become other white space.
        let is_white = manifest[at].is_ascii_whitespace();
        assert!(is_seen(directory.path()) || is_white, "byte {at} of the manifest");
    }
    write_files(directory.path(), &run, &manifest);
    assert!(!is_seen(directory.path()), "the intact files are intact");
}

#[test]
fn a_file_that_was_cut_or_is_missing_is_thrown_away() {
    let (directory, run, manifest) = intact();
    for length in [0, 1, 127, 128, 129, 3_000, run.len() - 33, run.len() - 1] {
        write_files(directory.path(), &run[..length], &manifest);
        assert!(is_seen(directory.path()), "a run of {length} bytes");
    }
    let longer = [&run[..], b"more"].concat();
    write_files(directory.path(), &longer, &manifest);
    assert!(is_seen(directory.path()));
    for length in 0..manifest.len() {
        write_files(directory.path(), &run, &manifest[..length]);
        assert!(is_seen(directory.path()), "a manifest of {length} bytes");
    }
    std::fs::write(directory.path().join("manifest.json"), &manifest).expect("written");
    assert!(is_seen(directory.path()), "the run is missing");
    assert_eq!(open(directory.path()).until(), None);
}

#[test]
fn damage_while_open_is_an_error_and_changes_nothing() {
    let directory = directory();
    let mut index = open(directory.path());
    index.add(entries(0..500, 7), Offset(12), 0).expect("added");
    let path = run_files(directory.path()).remove(0);
    let mut run = std::fs::read(&path).expect("read");
    run[128 + 20] ^= 1;
    std::fs::write(&path, &run).expect("written");
    let failed = index.add(entries(500..600, 7), Offset(13), 0);
    assert!(matches!(failed, Err(Error::Corrupt(_))), "{failed:?}");
    assert_eq!((index.until(), index.entries()), (Some(Offset(12)), 500));
    assert_eq!(run_files(directory.path()), std::slice::from_ref(&path), "the unfinished run is gone");
    std::fs::write(&path, &run[..200]).expect("written");
    let view = index.view();
    assert!((0..500).all(|number| matches!(values(&view, key(number)), Err(Error::Corrupt(_)))));
    index.clear().expect("cleared");
    index.add(entries(0..500, 7), Offset(13), 0).expect("added");
    assert_eq!(values(&index.view(), key(3)).expect("read"), [7_u32.to_be_bytes()]);
}

#[test]
fn few_keys_that_are_not_there_pass_the_filter() {
    let mut filter = filter::Filter::for_entries(100_000);
    (0..100_000).for_each(|number| filter.insert(key(number)));
    assert!((0..100_000).all(|number| filter.may_contain(key(number))));
    let passed = (100_000..300_000).filter(|number| filter.may_contain(key(*number))).count();
    assert!(passed < 600, "{passed} of 200000");
    assert!(filter.memory_bytes() <= 100_000 * 16 / 8 + 64);
}

#[test]
fn values_of_another_size_are_kept_whole() {
    let directory = directory();
    let mut index = Runs::<48>::open(directory.path(), LOG).expect("opens");
    let value = |number: u64| std::array::from_fn::<u8, 48, _>(|at| number.to_be_bytes()[at % 8] ^ at as u8);
    index.add((0..700).map(|number| (key(number), value(number))).collect(), Offset(1), 0).expect("added");
    drop(index);
    let view = Runs::<48>::open(directory.path(), LOG).expect("opens").view();
    assert!((0..700).all(|number| view.first(key(number)).expect("read") == Some(value(number))));
}
