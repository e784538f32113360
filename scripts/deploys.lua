-- Tells of deployments that others announce on a stream, and writes down that it told. A message is
-- {"app": "shop", "version": "1.2", "env": "prod", "status": "done"}. In config/scripts/deploys.yaml:
--
--   {place: "#ops", from: "kafka:deployments", audit: "kafka:audit"}

local config = bot.config or {}

if config.from then
  bot.bind("stream", "-|-", config.from, function(ev)
    local told = ev.data
    if type(told) ~= "table" or not told.app then
      -- It can never be understood: a dead letter, for whoever looks.
      bot.dead("this is no deployment: " .. fmt.truncate(ev.text, 100))
    end
    if config.audit then
      -- Before it is said: said twice is better than not written down.
      stream.publish(config.audit, { event = ev.id, app = told.app, version = told.version, told = config.place }, { key = told.app })
    end
    return `{told.app} {told.version or ""} on {told.env or "?"}: {told.status or "?"}`
  end, { to = config.place })
end
