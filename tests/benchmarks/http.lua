-- Posts one event a request, each with an id of its own. In the environment: SOURCE and TEMPLATE (a file).
-- Prints on the last line how many requests each thread made: "made N N ...".
local threads = {}
made = 0
local place = "#########"
local pieces = {}

function setup(thread)
  thread:set("first", #threads)
  table.insert(threads, thread)
end

-- The request is put together once: all are of one length, so only their numbers differ.
function init(_)
  local file = io.open(os.getenv("TEMPLATE"))
  local payload = file:read("*a")
  file:close()
  local body = '{"source_name":"' .. os.getenv("SOURCE") .. '","id":"evt_' .. place .. '","payload":' .. payload .. "}"
  local whole = wrk.format("POST", "/api/ingest", { ["Content-Type"] = "application/json" }, body)
  for piece in (whole .. place):gmatch("(.-)" .. place) do
    table.insert(pieces, piece)
  end
end

function request()
  made = made + 1
  return table.concat(pieces, string.format("%09d", first * 100000000 + made))
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
