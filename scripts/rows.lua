-- Tells of new rows: each, or only how many where there are many in a minute. The queries stand in the configuration of the
-- bot (sources: {databases: ...}); where to tell of each in config/scripts/rows.yaml:
--
--   {orders: "#shop", stock: "#ops"}

local EACH = 5

for query, place in bot.config or {} do
  local count = 0
  bot.bind("database", "-|-", `db:query/{query}`, function(ev)
    count += 1
    if count > EACH then return end
    return `{query} {ev.event}: {fmt.truncate(ev.text, 300)}`
  end, { to = place, order = "lane" })

  bot.bind("cron", "-|-", "* * * * *", function()
    if count > EACH then bot.say(place, `{query}: {count - EACH} more in the last minute`) end
    count = 0
  end)
end
