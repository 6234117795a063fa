/** `dns resolve @server`: what the command line prints of the answers of a real gateway, over UDP and TCP. */
import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import { type Answer, encode } from "dns-packet";
import { expect, onTestFinished, test } from "vitest";
import { waymark } from "../fakes/cli-world.ts";
import { entryView, FakeDnsCatalog } from "../fakes/dns-catalog.ts";
import { startTestGateway } from "../fakes/dns-gateway.ts";

async function gateway(): Promise<string> {
  const catalog = new FakeDnsCatalog([
    entryView({ name: "web", targets: [{ host: "10.0.0.1", port: 8080, weight: 5 }], tags: ["canary"] }),
    ...Array.from({ length: 90 }, (_, i) => entryView({ name: "big", instanceId: `i${i}`, targets: [{ host: `10.1.0.${i}` }] })),
  ]);
  const started = await startTestGateway(catalog);
  onTestFinished(() => started.gateway.stop());
  return `@127.0.0.1:${started.gateway.udpPort}`;
}

test.each([
  { words: ["web.market.waymark"], exit: 0, says: [";; status: NOERROR, flags: aa, over UDP", "web.market.waymark. 30 IN A 10.0.0.1"] },
  { words: ["web.market.waymark", "A", "+tcp"], exit: 0, says: ["over TCP", " IN A 10.0.0.1"] },
  {
    words: ["_svc._tcp.web.market.waymark", "SRV"],
    exit: 0,
    says: ["IN SRV 0 5 8080 10-0-0-1.addr.node.waymark.", ";; ADDITIONAL", "10-0-0-1.addr.node.waymark. 30 IN A 10.0.0.1"],
  },
  { words: ["web.market.waymark", "TXT"], exit: 0, says: ['"namespace=market"', '"tags=canary"'] },
  { words: ["waymark", "SOA"], exit: 0, says: [" IN SOA "] },
  { words: ["web.market.waymark", "MX"], exit: 5, says: ["NOERROR", ";; AUTHORITY", "IN SOA"] },
  { words: ["none.market.waymark"], exit: 5, says: ["status: NXDOMAIN"] },
  { words: ["example.com"], exit: 1, says: ["status: REFUSED"] },
  // What does not fit into a packet comes over TCP.
  { words: ["big.market.waymark"], exit: 0, says: ["over TCP", "10.1.0.89"] },
])("dns resolve @gateway $words ends with $exit", async ({ words, exit, says }) => {
  const server = await gateway();
  const ran = await waymark(["dns", "resolve", server, ...words]);
  expect({ exit: ran.exit, stderr: ran.stderr }).toEqual({ exit, stderr: "" });
  for (const text of says) expect(ran.stdout).toContain(text);
});

test.each([
  { words: ["_svc._tcp.web.market.waymark", "SRV"], exit: 0, says: "0 5 8080 10-0-0-1.addr.node.waymark" },
  { words: ["_svc._tcp.web.market.waymark", "PTR"], exit: 0, says: "i1._svc._tcp.web.market.waymark" },
  {
    words: ["_svc._tcp.web.market.waymark", "SVCB"],
    exit: 0,
    says: "1 10-0-0-1.addr.node.waymark. mandatory=port port=8080 ipv4hint=10.0.0.1",
  },
  { words: ["web.market.waymark", "A", "+tcp"], exit: 0, says: "10.0.0.1" },
  { words: ["web.market.waymark", "a", "+TCP"], exit: 0, says: "10.0.0.1" },
  { words: ["web.market.waymark", "TYPE1"], exit: 0, says: "10.0.0.1" },
  { words: ["_svc._tcp.web.market.waymark", "type64"], exit: 0, says: "1 10-0-0-1.addr.node.waymark. mandatory=port" },
  { words: ["web.market.waymark", "TYPE13"], exit: 5, says: "has no HINFO record" },
  { words: ["web.market.waymark", "TYPE46"], exit: 5, says: "has no TYPE46 record" },
  { words: ["web.market.waymark", "MX"], exit: 5, says: "has no MX record" },
  { words: ["none.market.waymark"], exit: 5, says: "NXDOMAIN" },
  { words: ["example.com"], exit: 1, says: "refused" },
])("dns resolve $words without @server asks for every type too", async ({ words, exit, says }) => {
  const server = (await gateway()).slice(1);
  const ran = await waymark(["dns", "resolve", ...words, "--dns-server", server]);
  expect(ran.exit).toBe(exit);
  expect(ran.stdout + ran.stderr).toContain(says);
});

test("the question desires recursion, so that resolvers answer it too", async () => {
  const asked: number[] = [];
  const change = (query: Buffer) => {
    asked.push(query.readUInt16BE(2));
    return query;
  };
  await waymark(["dns", "resolve", await hostile(change), "a.waymark", "A", "+tcp"]);
  expect(asked).toEqual([0x0100]);
});

test("keys, digests and CAA are written as in zone files", async () => {
  const of = { name: "a.waymark", ttl: 5 };
  const answers: Answer[] = [
    { ...of, type: "DNSKEY", data: { flags: 257, algorithm: 13, key: Buffer.from([1, 2, 255]) } },
    { ...of, type: "DS", data: { keyTag: 7, algorithm: 13, digestType: 2, digest: Buffer.from([0xab, 0xcd]) } },
    { ...of, type: "CAA", data: { flags: 128, tag: "issue", value: "ca.example" } },
  ];
  const change = (query: Buffer) => encode({ type: "response", id: query.readUInt16BE(0), answers });
  const { stdout } = await waymark(["dns", "resolve", await hostile(change), "a.waymark", "DNSKEY", "+tcp"]);
  for (const text of ["IN DNSKEY 257 3 13 AQL/\n", "IN DS 7 13 2 abcd\n", 'IN CAA 128 issue "ca.example"\n'])
    expect(stdout).toContain(text);
});

test("what a terminal would obey is written by its bytes", async () => {
  const answers: Answer[] = [{ name: "a.waymark", ttl: 5, type: "CNAME", data: "x\u001b[31m\u009b\u202ey\u2066" }];
  const change = (query: Buffer) => encode({ type: "response", id: query.readUInt16BE(0), answers });
  const { stdout } = await waymark(["dns", "resolve", await hostile(change), "a.waymark", "CNAME", "+tcp"]);
  expect(stdout).toContain(String.raw`IN CNAME x\027[31m\194\155\226\128\174y\226\129\166.`);
});

test("extended errors have their names, and what the server says of them", async () => {
  const options = [Buffer.from([0, 22]), Buffer.from("\u0000\u0012who?"), Buffer.from([1, 0])].map((data) => ({ code: 15, data }));
  const opt = {
    type: "OPT",
    name: ".",
    udpPayloadSize: 1232,
    extendedRcode: 0,
    ednsVersion: 0,
    flags: 0,
    flag_do: false,
    options,
  } as const;
  const change = (query: Buffer) => encode({ type: "response", id: query.readUInt16BE(0), flags: 2, additionals: [opt as never] });
  const { stdout } = await waymark(["dns", "resolve", await hostile(change), "a.waymark", "A", "+tcp"]);
  expect(stdout.match(/^;; EDE: .*$/gm)).toEqual([";; EDE: 22 (No Reachable Authority)", ";; EDE: 18 (Prohibited: who?)", ";; EDE: 256"]);
});

test("programs get one document", async () => {
  const server = await gateway();
  const { stdout } = await waymark(["dns", "resolve", server, "web.market.waymark", "-o", "json"]);
  expect(JSON.parse(stdout)).toMatchObject({
    rcode: "NOERROR",
    transport: "udp",
    answer: ["web.market.waymark. 30 IN A 10.0.0.1"],
    additional: [],
  });
});

test.each([
  { words: ["@127.0.0.1:1", "a.waymark"], exit: 3, says: "no answer from the DNS server at 127.0.0.1:1" },
  { words: ["@127.0.0.1:1", "a.waymark", "+tcp"], exit: 3, says: "no answer" },
  { words: ["@no.such.invalid", "a.waymark"], exit: 2, says: "no address is known for no.such.invalid: expected an IP address or a known" },
  { words: ["@no.such.invalid", "a.waymark", "+tcp"], exit: 2, says: "no address is known for no.such.invalid" },
  { words: ["@", "a.waymark"], exit: 2, says: "expected @host" },
  { words: ["@127.0.0.1:70000", "a.waymark"], exit: 2, says: "expected @host" },
  { words: ["@127.0.0.1:0", "a.waymark"], exit: 2, says: "expected @host" },
  { words: ["@127.0.0.1:1"], exit: 2, says: "missing name after the server" },
  { words: ["@127.0.0.1:1", "a", "SVR"], exit: 2, says: "Did you mean SRV?" },
  { words: ["@127.0.0.1:1", "a", "TYPE65536"], exit: 2, says: "unknown record type TYPE65536" },
  { words: ["@127.0.0.1:1", "a", "A", "B"], exit: 2, says: "unexpected B" },
  { words: ["@127.0.0.1:1", "a.waymark"], exit: 3, says: "check the address and port" },
  { words: ["a.waymark", "A", "--dns-server", "nobody:x"], exit: 2, says: "expected an address such as" },
])("dns resolve $words ends with $exit and says $says", async ({ words, exit, says }) => {
  const ran = await waymark(["dns", "resolve", ...words]);
  expect({ exit: ran.exit, stdout: ran.stdout }).toEqual({ exit, stdout: "" });
  expect(ran.stderr).toContain(says);
});

/** A server over TCP that gives the query back with something of it changed. */
async function hostile(change: (answer: Buffer) => Buffer): Promise<string> {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", (query) => {
      const answer = change(Buffer.from(query.subarray(2)));
      socket.end(Buffer.concat([Buffer.from([answer.length >> 8, answer.length & 255]), answer]));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  const address = server.address();
  return `@127.0.0.1:${typeof address === "object" ? address?.port : ""}`;
}

const asResponse = (answer: Buffer) => {
  answer.writeUInt16BE(0x8400, 2);
  return answer;
};

const HALF_A_HEADER = 6;

test.each([1, 2, HALF_A_HEADER, -1])("an answer over TCP that comes in two pieces, cut at %i, is read once it is whole", async (cut) => {
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.once("data", (query) => {
      const answer = asResponse(Buffer.from(query.subarray(2)));
      const framed = Buffer.concat([Buffer.from([answer.length >> 8, answer.length & 255]), answer]);
      socket.write(framed.subarray(0, cut));
      setTimeout(() => socket.end(framed.subarray(cut)), 20);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  onTestFinished(() => void server.close());
  const address = server.address();
  const port = typeof address === "object" ? address?.port : 0;
  const ran = await waymark(["dns", "resolve", `@127.0.0.1:${port}`, "a.waymark", "A", "+tcp"]);
  expect([ran.exit, ran.stdout.split("\n")[0], ran.stderr]).toEqual([5, ";; status: NOERROR, flags: aa, over TCP", ""]);
});

test("after an answer over UDP that cannot be read the question is asked once more", async () => {
  const socket = createSocket("udp4");
  let count = 0;
  socket.on("message", (query, { port, address }) => {
    const answer = asResponse(query);
    const isBroken = count++ === 0;
    socket.send(isBroken ? Buffer.concat([answer.subarray(0, 12), Buffer.from([0xc0, 12, 0, 1, 0, 1])]) : answer, port, address);
  });
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  onTestFinished(() => void socket.close());
  const ran = await waymark(["dns", "resolve", `@127.0.0.1:${socket.address().port}`, "a.waymark"]);
  expect([ran.exit, ran.stdout.split("\n")[0], count]).toEqual([5, ";; status: NOERROR, flags: aa, over UDP", 2]);
});

test.each([
  { what: "the query itself", change: (query: Buffer) => query },
  { what: "an answer with another id", change: (query: Buffer) => (query.writeUInt16BE(query.readUInt16BE(0) ^ 1, 0), asResponse(query)) },
  { what: "half a header", change: (query: Buffer) => asResponse(query).subarray(0, 6) },
  { what: "nothing", change: () => Buffer.alloc(0) },
  {
    what: "a name that points to itself",
    change: (query: Buffer) => Buffer.concat([asResponse(query).subarray(0, 12), Buffer.from([0xc0, 12, 0, 1, 0, 1])]),
  },
])("$what is no answer of a server over TCP", async ({ change }) => {
  const ran = await waymark(["dns", "resolve", await hostile(change), "a.waymark", "A", "+tcp"]);
  expect({ exit: ran.exit, stdout: ran.stdout }).toEqual({ exit: 3, stdout: "" });
  expect(ran.stderr).toContain("no answer");
});
