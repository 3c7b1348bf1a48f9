-- POST of one form after the other, a line each of the file FORMS.
local forms, at = {}, 0
function init()
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/x-www-form-urlencoded"
  for line in io.lines(os.getenv("FORMS")) do forms[#forms + 1] = wrk.format("POST", nil, nil, line) end
end
function request()
  at = at % #forms + 1
  return forms[at]
end
function done(summary, latency)
  local broken = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format('{"achieved": %.3f, "p50_us": %d, "p99_us": %d, "p999_us": %d, "highest_us": %d, "refused": %d, "broken": %d}\n',
    (summary.requests - summary.errors.status) / (summary.duration / 1e6), latency:percentile(50), latency:percentile(99),
    latency:percentile(99.9), latency.max, summary.errors.status, broken))
end
