-- Tells channels what happens outside. It does what its block says, and nothing without one; in
-- config/scripts/announce.yaml:
--
--   webhook:  {"github/push:acme/*": "#dev", "alertmanager/*": "#ops"}
--   log:      {"/var/log/app.log ~ERROR|FATAL": "#ops"}
--   file:     {"/srv/reports/*.csv": "#reports"}
--   stream:   {"kafka:deployments": "#ops"}
--   metric:   {"prometheus:cpu_usage>80 for 5m clear <70": "#ops"}
--   rest:     {"rest:status": "#ops"}
--   database: {"db:query/orders": "#shop"}

local LONGEST = 350
local KINDS = { "webhook", "file", "stream", "log", "metric", "rest", "database" }

-- One line of it, not longer than a channel bears.
local function line(text)
  text = string.match(text, "[^\r\n]*") or ""
  if #text > LONGEST then
    local last = LONGEST
    -- Not in the middle of a character.
    while last > 0 and bit32.band(string.byte(text, last + 1), 0xC0) == 0x80 do last -= 1 end
    text = string.sub(text, 1, last) .. "…"
  end
  return text
end

local words = {
  webhook = function(ev) return ev.text end,
  file = function(ev) return `{ev.event} {ev.name}` .. (if ev.row then `, row {ev.row}: {ev.text}` else ` ({ev.size} bytes)`) end,
  stream = function(ev) return `{ev.topic}: {ev.text}` end,
  log = function(ev) return ev.text end,
  metric = function(ev) return ev.text end,
  rest = function(ev) return `{ev.name}: {ev.event} {ev.text}` end,
  database = function(ev) return `{ev.query or ev.channel}: {ev.event or ""} {ev.text}` end,
}

for _, kind in KINDS do
  for mask, place in (bot.config or {})[kind] or {} do
    bot.bind(kind, "-|-", mask, function(ev)
      local text = line(words[kind](ev))
      return if ev.replay then `(again) {text}` else text
    end, { to = place })
  end
end
