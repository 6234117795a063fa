/**
 * Sends random names that do not exist, each from the next of 10,000 networks, and good questions from a hundred others, at even rates, and counts the good ones that
 * are answered whole: `node bench/_dns-flood-child.ts HOST PORT SECONDS FLOOD_PER_SECOND GOOD_PER_SECOND`. It prints one line of JSON.
 */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { encode } from "dns-packet";
import { questionsOf, ZONE } from "./_dns.ts";

export interface Sent {
  readonly flood: number;
  readonly good: number;
  /** Good questions with a whole answer that has records. */
  readonly answered: number;
  readonly tookSeconds: number;
}

const [host = "", ...numbers] = process.argv.slice(2);
const [port = 0, seconds = 0, floodPerSecond = 0, goodPerSecond = 0] = numbers.map(Number);
const FLOODING = 10_000;
/** Each asks fifty good questions a second: below any bound of a network. */
const GOOD = 100;
/** What is still on its way after the last question. */
const LATE_MS = 500;
const HEADER_BYTES = 12;
const RANDOM_AT = 13;
const RANDOM_LETTERS = 12;

let answered = 0;

async function open(i: number, onMessage: (message: Buffer) => void): Promise<Socket> {
  // Without a look-up of its own a socket sends a tick later, when the buffer has another name already.
  // oxlint-disable-next-line unicorn/no-null -- it is what a look-up without a fault gives
  const socket = createSocket({ type: "udp4", lookup: (name, _options, done) => done(null, name, 4) });
  socket.on("message", onMessage);
  const listening = once(socket, "listening");
  socket.bind({ address: `100.${64 + (i >> 8)}.${i & 255}.7`, port: 0 });
  await listening;
  return socket;
}

const flooding: Socket[] = [];
for (let i = 0; i < FLOODING; i++) flooding.push(await open(i, () => {}));
const good: Socket[] = [];
const questions = questionsOf().map((question, id) => encode({ type: "query", id, questions: [question] }));
/** How often each question is under way. */
const underWay = questions.map(() => 0);
const isWhole = (message: Buffer) => ((message[2] ?? 0) & 0x02) === 0 && ((message[3] ?? 0) & 0x0f) === 0 && message.readUInt16BE(6) > 0;

/** An answer counts once, and only with the question of its id. */
function count(message: Buffer): void {
  if (message.length < HEADER_BYTES || !isWhole(message)) return;
  const id = message.readUInt16BE(0);
  const asked = questions[id]?.subarray(HEADER_BYTES);
  if (asked === undefined || !message.subarray(HEADER_BYTES, HEADER_BYTES + asked.length).equals(asked)) return;
  if ((underWay[id] ?? 0) === 0) return;
  underWay[id] = (underWay[id] ?? 0) - 1;
  answered += 1;
}

for (let i = 0; i < GOOD; i++) good.push(await open(FLOODING + i, count));
const random = encode({ type: "query", id: 7, questions: [{ name: `${"a".repeat(RANDOM_LETTERS)}.svc.market.${ZONE}`, type: "A" }] });

let [flood, asked] = [0, 0];
const startMs = performance.now();
await new Promise<void>((resolve) => {
  const turn = () => {
    const passed = (performance.now() - startMs) / 1000;
    for (const due = passed * goodPerSecond; asked < due; asked++) {
      const id = asked % questions.length;
      underWay[id] = (underWay[id] ?? 0) + 1;
      good[asked % GOOD]?.send(questions[id] ?? "", port, host);
    }
    // No more in a turn than leaves the good ones their time, and than a socket has room for.
    for (let left = 64, due = passed * floodPerSecond; left > 0 && flood < due; left--, flood++) {
      for (let at = 0; at < RANDOM_LETTERS; at++) random[RANDOM_AT + at] = 97 + Math.floor(Math.random() * 26);
      flooding[flood % FLOODING]?.send(random, port, host);
    }
    if (passed < seconds) setImmediate(turn);
    else resolve();
  };
  turn();
});
const tookSeconds = (performance.now() - startMs) / 1000;
await new Promise((resolve) => setTimeout(resolve, LATE_MS));
console.log(JSON.stringify({ flood, good: asked, answered, tookSeconds } satisfies Sent));
process.exit(0);
