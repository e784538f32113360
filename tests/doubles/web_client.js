// A page with an IRC client of others in it: irc-framework over its own WebSocket transport, as The Lounge and Kiwi IRC use it.
// Arguments: HOST PORT NICK PASSWORD. What happens is told line by line; what is to be done comes line by line.
'use strict';

global.WebSocket = require('ws');
const { Client } = require('irc-framework');
const transport = require('irc-framework/src/transports/websocket');

const [host, port, nick, password] = process.argv.slice(2);
const tell = (...words) => console.log(words.join(' '));
const client = new Client();

let registered = 0;

client.on('registered', (event) => {
    registered = Date.now();
    tell('registered', event.nick);
    client.join('#1');
});
client.on('loggedin', (event) => tell('loggedin', event.account));
client.on('sasl failed', (event) => tell('refused', event.reason));
client.on('userlist', (event) => tell('sees', event.channel, event.users.map((user) => user.nick).sort().join(',')));
client.on('message', (event) => {
    const timed = event.tags && event.tags.time ? 'timed' : 'untimed';
    tell('message', timed, event.type, event.nick, event.target, event.message);
});
client.on('join', (event) => tell('joins', event.nick, event.channel));
client.on('reconnecting', () => tell('reconnecting'));
client.on('close', () => tell('closed'));

client.connect({
    host,
    port: Number(port),
    path: '/partyline/ws',
    websocket_protocol: 'text.ircv3.net',
    transport,
    nick,
    username: nick,
    gecos: 'In a page',
    account: { account: nick, password },
    enable_echomessage: true,
    auto_reconnect: true,
    auto_reconnect_max_wait: 100,
});

require('readline').createInterface({ input: process.stdin }).on('line', (line) => {
    const [word, target, ...words] = line.split(' ');
    if (word === 'say') client.say(target, words.join(' '));
    if (word === 'act') client.action(target, words.join(' '));
    if (word === 'part') client.part(target);
    if (word === 'drop') {
        // It comes back by itself only where it was in for five seconds.
        const wait = Math.max(0, registered + 5200 - Date.now());
        setTimeout(() => client.connection.transport.socket.terminate(), wait);
    }
    if (word === 'quit') client.quit('bye');
});
