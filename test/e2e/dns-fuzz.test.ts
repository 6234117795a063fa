/** Thousands of queries through the sockets of a gateway: whole and damaged, in pieces of any size, with false lengths, and cut at every byte. */
import { expect, test } from "vitest";
import { framed, SocketFuzz } from "../fakes/dns-fuzzed-sockets.ts";
import { queryBytes, responseText } from "../fakes/dns-text.ts";

const GOOD = { name: "web.open.waymark", type: "A" } as const;

test("queries over UDP and TCP get answers to their ids and questions, within their limits, and with nothing hidden; the gateway goes on", {
  tags: ["night"],
}, async () => {
  await using fuzz = await SocketFuzz.open("1");
  let [udp, tcp, falseLengths] = [0, 0, 0];
  for (let round = 0; round < 60; round++) {
    udp += await fuzz.udp();
    tcp += await fuzz.tcp();
    falseLengths += await fuzz.falseLengths();
  }
  expect(udp).toBeGreaterThan(1500);
  expect(tcp).toBeGreaterThan(1500);
  expect(falseLengths).toBeGreaterThan(100);
  expect(fuzz.world.faults).toEqual([]);
});

test("a stream that comes in two parts is answered alike, wherever it is cut", async () => {
  await using fuzz = await SocketFuzz.open("cut");
  const stream = Buffer.concat([1, 2, 3].map((id) => framed(queryBytes({ ...GOOD, id }))));
  for (let at = 0; at <= stream.length; at++) {
    const answers = await fuzz.cutAt(stream, at);
    expect([at, ...answers.map((answer) => answer.readUInt16BE(0))]).toEqual([at, 1, 2, 3]);
    for (const answer of answers) expect(responseText(answer)).toContain(" A 203.0.113.1");
  }
});
