-- Errors of logs: a new one at once, the same ones as a number every five minutes. In config/scripts/errors.yaml:
--
--   {place: "#ops", logs: ["/var/log/app.log ~ERROR|FATAL", "/var/log/api.json json level=error"]}

local KNOWN_MAX = 500

-- What the same errors have in common: numbers, addresses and what is quoted differ.
local function signature(text)
  text = string.gsub(text, '"[^"]*"', '""')
  text = string.gsub(text, "%x%x%x%x%x%x+", "#")
  text = string.gsub(text, "%d+", "#")
  return fmt.truncate(text, 200)
end

-- How often each came since it was told. Kept over a reload; a restart tells each anew.
local known = {}
bot.on_load(function() known = bot.carried or {} end)
bot.on_unload(function() return known end)

local logs = (bot.config or {}).logs or {}
for _, mask in logs do
  bot.bind("log", "-|-", mask, function(ev)
    local error = signature(ev.text)
    local one = known[error]
    if one then
      one.more += 1
      return
    end
    local count = 0
    for _ in known do count += 1 end
    if count >= KNOWN_MAX then known = {} end
    known[error] = { more = 0, quiet = 0, text = fmt.truncate(ev.text, 300) }
    return fmt.truncate(ev.text, 350)
  end, { to = bot.config.place })
end

local function tell()
  for error, one in known do
    if one.more > 0 then
      bot.say(bot.config.place, `{one.more} more: {one.text}`)
      one.more, one.quiet = 0, 0
    else
      -- After an hour of quiet it is news again.
      one.quiet += 1
      if one.quiet >= 12 then known[error] = nil end
    end
  end
end

if #logs > 0 then
  bot.bind("cron", "-|-", "*/5 * * * *", tell)
end
