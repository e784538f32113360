-- Alarms of metrics: what fires, what is over, and !alarms for what fires now. In config/scripts/alarms.yaml:
--
--   place: "#ops"
--   rules: ["prometheus:'1 - avg(up)'>0.1 for 2m", "statsd:api.latency.p99>250", "influxdb:'SELECT last(free) FROM disk'<10"]

local function name(ev)
  local labels = {}
  for label, value in ev.labels or {} do table.insert(labels, `{label}={value}`) end
  table.sort(labels)
  local all = `{ev.mask} {table.concat(labels, " ")}`
  -- A name has at most 512 bytes; what is longer is told apart by a sum of it.
  local sum = 5381
  for at = 1, #all do sum = (sum * 33 + string.byte(all, at)) % 4294967296 end
  return `alarm/{string.sub(all, 1, 300)} {sum}`
end

local rules = (bot.config or {}).rules or {}
for _, rule in rules do
  bot.bind("metric", "-|-", rule, function(ev)
    if ev.state == "resolved" then
      kv.delete(name(ev))
      return `{fmt.color("OK", "green")} {ev.text}`
    end
    kv.set(name(ev), { text = ev.text, at = time.now() }, { ttl = "30d" })
    return `{fmt.color(string.upper(ev.state), "red")} {ev.text}`
  end, { to = bot.config.place })
end

local function firing()
  local lines = {}
  for _, key in kv.keys("alarm/") do
    local one = kv.get(key)
    if one then table.insert(lines, `{one.text}, for {fmt.duration(time.now() - one.at)}`) end
  end
  return if #lines > 0 then lines else "nothing fires"
end

if #rules > 0 then
  bot.bind("pub", "-|-", "!alarms", firing, { help = "What fires now", cooldown = { channel = "5s" } })
end
