-- GET over the paths in the file KEYS, one per line; with RANGE a random part of that many bytes of SIZE.
local paths, thread = {}, 0
local next_thread = 0
function setup(t) t:set("thread", next_thread); next_thread = next_thread + 1 end
function init()
  for line in io.lines(os.getenv("KEYS")) do paths[#paths + 1] = line end
  math.randomseed(42 + thread)
  range, size, token = tonumber(os.getenv("RANGE") or "0"), tonumber(os.getenv("SIZE")), os.getenv("TOKEN")
end
function request()
  local headers = { Authorization = "Bearer " .. token }
  if range > 0 then
    local from = math.random(0, size - range)
    headers.Range = string.format("bytes=%d-%d", from, from + range - 1)
  end
  return wrk.format("GET", paths[math.random(#paths)], headers)
end
function done(summary, latency)
  local good = summary.requests - summary.errors.status
  local broken = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format("WRK %.3f %.3f %.3f %d %d\n", good / (summary.duration / 1e6), latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, summary.errors.status, broken))
end
