local t = require "test"

t.case("rows are summed, one that comes twice counts once", function()
  local b = t.bot{ script = "reports.lua", config = { place = "#shop", mask = "/srv/*.csv rows", sum = "amount" } }
  local function row(number, amount, last)
    b:happens("file", { path = "/srv/a.csv", name = "a.csv", event = "created", row = number, last = last, data = { amount = amount } })
  end
  row(1, "10.50")
  row(2, "1.25")
  row(2, "1.25")
  b:expect_silence("#shop")
  row(3, "2", true)
  b:expect("#shop", "a.csv: 3 rows, amount 13.75")
  row(3, "2", true)
  b:expect("#shop", "a.csv: 3 rows, amount 13.75")
end)
