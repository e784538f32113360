-- Binds of kind `pipeline` hear of every change of a run: app/env/state, and app/env/stage/state.
bot.bind("pipeline", "-|-", "shop/prod/rolled_back", function(ev)
  bot.say("#ops", ("run %d of %s was undone; write down what happened: !log shop <text>"):format(ev.run, ev.requester))
end)
