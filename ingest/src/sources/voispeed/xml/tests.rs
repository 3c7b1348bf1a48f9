//! The bodies that the vendor's guide prints, and worse ones.

use super::*;

fn rows(body: &str) -> Vec<&str> {
    split(body.as_bytes()).expect("it can be split").into_iter().map(|range| &body[range]).collect()
}

fn fields(payload: &str) -> Row {
    row(payload.as_bytes()).expect("it is a row")
}

/// `get_user_call_report` as printed: no closing tags, and `<call>` for `</call>`.
const USER_REPORT: &str = "<result>
	<outcome>0 </outcome>
    <call>
	    <id> autoincrement 
	    <callid> Id communication
	    <start_time> call start time
	    <answer_time> Call answered time
	    <duration> duration in seconds
        <outcome> outcome (Appendices\\Table 8)
	    ..
	    <direction> direction of the call
	    <my_number> extension of the user
	    <remote_number> interlocutor number
	    <local_id> entity_call_id
	    <group_name>membership group name
	    ...
	    <company>company contact for \"my_number\"
	    <remote_name> name contact per \u{201c}my_number\u{201d} 
    <call>
</result> ";

/// `get_call_report` as printed.
const CALL_REPORT: &str = "<result> 
  <outcome>0</outcome>  
  <call>
     <id> call identification</id>  
     <calling_id> id of the calling entity </calling_id
     <calling_type> calling entity type </calling_type>  
     <connected_id> id of last connected entity </connected _id>  
     <connected _type> type of last connected entity </connected _type>
     <connected _number> last number connected </connected _number>
     <call_ref_if> call id of the transferred call 
     </call_ref_id>  
     <gateway_in> outgoing call from gateway</gateway_in>
     <internal> call between extensions </internal> 
   <call>
 </result> ";

#[test]
fn the_printed_user_report_is_one_row() {
    let rows = rows(USER_REPORT);
    assert_eq!(rows.len(), 1);
    assert!(rows[0].starts_with("<call>") && rows[0].ends_with('\u{201d}'), "{:?}", rows[0]);
    let row = fields(rows[0]);
    assert_eq!(row["id"], "autoincrement");
    assert_eq!(row["callid"], "Id communication");
    assert_eq!(row["local_id"], "entity_call_id");
    assert!(row["outcome"].starts_with("outcome (Appendices\\Table 8)"));
    assert_eq!(row["company"], "company contact for \"my_number\"");
}

#[test]
fn the_printed_call_report_is_one_row() {
    let rows = rows(CALL_REPORT);
    assert_eq!(rows.len(), 1);
    let row = fields(rows[0]);
    assert_eq!(row["id"], "call identification");
    assert_eq!(row["calling_id"], "id of the calling entity");
    assert_eq!(row["calling_type"], "calling entity type");
    assert_eq!(row["connected_id"], "id of last connected entity");
    assert_eq!(row["connected_type"], "type of last connected entity");
    assert_eq!(row["connected_number"], "last number connected");
    assert_eq!(row["call_ref_id"], "call id of the transferred call");
    assert_eq!(row["internal"], "call between extensions");
}

#[test]
fn well_formed_rows_are_cut_as_sent() {
    let body = "\u{feff}<?xml version=\"1.0\" encoding=\"UTF-8\" ?>\n<result><outcome>0</outcome>\n<call> <id>1</id></call>\
        <call><id>2</id><name>A &amp; B &#233; <![CDATA[<x>]]></name><none/></call><call/></result>";
    let rows = rows(body);
    assert_eq!(rows[0], "<call> <id>1</id></call>");
    assert_eq!(rows[2], "<call/>");
    let second = fields(rows[1]);
    assert_eq!(second["name"], "A & B \u{e9} <x>");
    assert_eq!(second["none"], "");
}

#[test]
fn call_closes_the_row_before_it() {
    let body = "<result><outcome>0</outcome><call><id>1</id><call><call><id>2<call></result>";
    assert_eq!(rows(body), ["<call><id>1</id>", "<call><id>2"]);
    let body = "<result><call><id>1</id></call><call><id>2";
    assert_eq!(rows(body), ["<call><id>1</id></call>", "<call><id>2"]);
    assert_eq!(fields("<call><id>1<user_id> 7 <user_id></call>")["user_id"], "7");
}

#[test]
fn answers_without_rows_have_none() {
    assert!(
        rows("<?xml version=\"1.0\"?>\n<result>\n<outcome>1</outcome>\n<error>connection not found</error></result>")
            .is_empty()
    );
    assert!(rows("<result> \n <outcome1</outcome> <error> failure reason </error> </result>").is_empty());
    assert!(rows("<result><outcome>0</outcome></result>").is_empty());
}

#[test]
fn what_is_no_answer_is_refused() {
    for body in ["", "hello", "{\"a\":1}", "<html><p>x<br></html>", "<html><p>Sign in</p></html>", "\u{0}\u{1}"] {
        assert!(split(body.as_bytes()).is_err(), "{body:?}");
    }
    let bomb = "<?xml version=\"1.0\"?><!DOCTYPE lolz [<!ENTITY lol \"lol\"><!ENTITY lol2 \"&lol;&lol;\">]>\
        <result><call><id>&lol2;</id></call></result>";
    assert!(split(bomb.as_bytes()).is_err());
    assert!(row(bomb.as_bytes()).is_err());
    assert!(row(b"<call><id>\xff</id></call>").is_err());
    assert!(row(b"<result></result>").is_err());
}

#[test]
fn unknown_entities_stay_as_written() {
    assert_eq!(fields("<call><id>&lol;</id></call>")["id"], "&lol;");
    assert_eq!(fields("<call><id>a &amp; b<x>")["id"], "a & b");
}
