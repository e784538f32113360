// A page with a web client: irc-framework as it is built for browsers, over its WebSocket transport. It does what it reads, a line of
// JSON each (a method and its arguments), and writes down what it is told, as [event, what].
'use strict';

globalThis.WebSocket ??= require('ws').WebSocket;
const { Client } = require('irc-framework/dist/browser/src/index.js');

const client = new Client();
const EVENTS = [
  'registered', 'loggedin', 'sasl failed', 'server options', 'motd', 'join', 'part', 'quit', 'userlist', 'privmsg', 'notice', 'action',
  'topic', 'whois', 'away', 'back', 'irc error', 'unknown command', 'close', 'reconnecting',
];
for (const name of EVENTS) {
  client.on(name, (event) => {
    const seen = new Set();
    const plain = (_, value) => {
      // What refers to the client itself is no part of what happened.
      if (typeof value === 'function' || (value && typeof value === 'object' && seen.has(value))) return undefined;
      if (value && typeof value === 'object') seen.add(value);
      return value;
    };
    console.log(JSON.stringify([name, event ?? null], plain));
  });
}
require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
  const [method, ...args] = JSON.parse(line);
  client[method](...args);
}).on('close', () => process.exit(0));
