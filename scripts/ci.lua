-- Tells when a build breaks and when it is well again, not each time it is fine. In config/scripts/ci.yaml:
--
--   {place: "#dev", masks: ["github/workflow_run/completed:acme/*", "gitlab/pipeline:acme/*"]}

-- What came of it, in the words of whoever built: GitHub's workflow_run, or GitLab's pipeline.
local function result(ev)
  local run = ev.json and ev.json.workflow_run
  return if run then run.conclusion else ev.action
end

local BAD = { failure = true, failed = true, timed_out = true, startup_failure = true }
local GOOD = { success = true }

local function built(ev)
  local now = result(ev)
  if not BAD[now] and not GOOD[now] then return end
  local run = ev.json and ev.json.workflow_run
  local what = `{ev.repo} {ev.ref}{if run then ` {run.name}` else ""}`
  local name = `broken/{what}`
  local since = kv.get(name)
  if BAD[now] and not since then
    -- Said first: twice is better than never.
    bot.say(bot.config.place, `{what} is broken: {if run then run.html_url else ev.text}`)
    kv.set(name, time.now(), { ttl = "30d" })
  elseif GOOD[now] and since then
    bot.say(bot.config.place, `{what} is well again after {fmt.duration(time.now() - since)}`)
    kv.delete(name)
  end
end

for _, mask in (bot.config or {}).masks or {} do
  bot.bind("webhook", "-|-", mask, built)
end
