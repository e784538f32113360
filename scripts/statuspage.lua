-- Says what something over HTTP was and what it is now. The address stands in the configuration of the bot
-- (sources: {rest: {github: {url: "https://www.githubstatus.com/api/v2/status.json", on: change, pointer: /status/description}}}),
-- where to say it in config/scripts/statuspage.yaml:
--
--   {github: "#ops"}

for page, place in bot.config or {} do
  bot.bind("rest", "-|-", `rest:{page}`, function(ev)
    local now = if type(ev.data) == "string" then ev.data else ev.text
    local before = kv.get(`page/{page}`)
    kv.set(`page/{page}`, now)
    if ev.event == "removed" then return `{page}: {before or ev.key} is gone` end
    return if before then `{page}: {before} → {now}` else `{page}: {now}`
  end, { to = place })
end
