-- Posts one event a request, each with an id of its own. In the environment: SOURCE and TEMPLATE (a file).
-- Prints on the last line how many requests each thread made: "made N N ...".
local threads = {}
made = 0
local head = '{"source_name":"' .. os.getenv("SOURCE") .. '","id":"evt_'
local file = io.open(os.getenv("TEMPLATE"))
local before, between, after = file:read("*a"):match("^(.-)#########(.-)#########(.*)$")
if not before then
  file:seek("set", 0)
  before, after = file:read("*a"):match("^(.-)#########(.*)$")
end
file:close()
before = '","payload":' .. before
local headers = { ["Content-Type"] = "application/json" }

function setup(thread)
  thread:set("first", #threads)
  table.insert(threads, thread)
end

function request()
  made = made + 1
  local number = string.format("%09d", first * 100000000 + made)
  local payload = between and (before .. number .. between .. number .. after) or (before .. number .. after)
  return wrk.format("POST", "/api/ingest", headers, head .. number .. payload .. "}")
end

function done(summary, latency, _)
  for _, thread in ipairs(threads) do
    io.write(string.format("made %d\n", thread:get("made")))
  end
  local errors = summary.errors
  io.write(string.format(
    "answered %d in %d us, refused %d, broken %d, p50 %d us, p99 %d us\n",
    summary.requests, summary.duration, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50), latency:percentile(99)))
end
