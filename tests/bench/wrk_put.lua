-- PUT of SIZE random bytes to a new name per request; FORMAT is the path with %s for the name.
local body, count, thread, run = nil, 0, 0, os.getenv("RUN") or "0"
local next_thread = 0
function setup(t) t:set("thread", next_thread); next_thread = next_thread + 1 end
function init()
  local file = io.open("/dev/urandom", "rb"); local block = file:read(65536); file:close()
  local size = tonumber(os.getenv("SIZE"))
  body = string.rep(block, math.floor(size / 65536)) .. block:sub(1, size % 65536)
  wrk.headers["Content-Type"] = "audio/wav"
end
function request()
  count = count + 1
  local name = string.format("%s-%d-%d", run, thread, count)
  return wrk.format("PUT", (os.getenv("FORMAT"):gsub("NAME", name)), nil, body)
end
function done(summary, latency)
  local good = summary.requests - summary.errors.status
  local broken = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format("WRK %.3f %.3f %.3f %d %d\n", good / (summary.duration / 1e6), latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, summary.errors.status, broken))
end
