local greeting = {}
function greeting.hello(nick) return "hello from the library, " .. nick end
return greeting
