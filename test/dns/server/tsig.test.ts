/** Signed questions (RFC 8945) and what is answered to them. The signatures of the test are made by other code than those of the gateway. */
import { expect, test } from "vitest";
import { DnsResponder } from "../../../src/dns/server/responder.ts";
import { onlyView } from "../../../src/dns/views/query-client.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import { SETTINGS } from "../../fakes/options.ts";
import { complete, hmac, NOW, SECRET, type Signer, signedBy, u16, variables, wire } from "../../fakes/tsig.ts";
import { questionBytes } from "../asking.ts";

const AXFR = 252;

/** The last record of an answer as it must be after the answer itself. */
function readTsig(bytes: Buffer, signer: Required<Signer>) {
  const at = bytes.lastIndexOf(Buffer.concat([wire(signer.key), u16(250), u16(255)]));
  const data = bytes.subarray(at + wire(signer.key).length + 10 + wire(signer.algorithm).length);
  const macBytes = data.readUInt16BE(8);
  const rest = data.subarray(10 + macBytes);
  const plain = Buffer.from(bytes.subarray(0, at));
  plain.writeUInt16BE(bytes.readUInt16BE(10) - 1, 10);
  return {
    plain,
    atSeconds: data.readUIntBE(0, 6),
    mac: data.subarray(10, 10 + macBytes),
    error: rest.readUInt16BE(2),
    other: rest.subarray(6),
  };
}

interface Options {
  readonly mayBegin?: boolean | undefined;
  readonly algorithm?: "hmac-sha256" | "hmac-sha512";
  readonly serial?: number;
  readonly reverseZones?: readonly string[];
}

function newResponder({ mayBegin = true, algorithm = "hmac-sha256", serial = 1, reverseZones = [] }: Options = {}): DnsResponder {
  const key = { name: "k.example", algorithm, secret: SECRET, viewIndex: 0 } as const;
  return new DnsResponder({
    settings: { ...TEST_DNS_SETTINGS, reverseZones },
    planBytes: SETTINGS.dns.planBytes,
    random: () => 0.5,
    serialOf: () => serial,
    wallMs: () => NOW * 1000,
    transferKeys: { find: (name) => (name === key.name ? key : undefined), mayBegin: () => mayBegin },
  });
}

const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }] })]);
function respond(bytes: Uint8Array, transport: "tcp" | "udp" = "tcp", responder = newResponder()) {
  const reply = responder.respond(bytes, transport, () => onlyView(catalog));
  if (reply === undefined) throw new Error("no answer");
  return { ...reply, bytes: Buffer.from(reply.bytes), code: (reply.bytes[3] ?? 0) & 15 };
}

const QUESTION = questionBytes("A", "web.market.waymark");

test.each<{ what: string; signer: Signer; code: number; error: number; isSigned: boolean; otherBytes?: number }>([
  { what: "a right signature", signer: {}, code: 0, error: 0, isSigned: true },
  { what: "a name in capitals", signer: { key: "K.Example" }, code: 9, error: 16, isSigned: false },
  { what: "a clock within the fudge", signer: { atSeconds: NOW - 300 }, code: 0, error: 0, isSigned: true },
  { what: "another hour", signer: { atSeconds: NOW - 3600 }, code: 9, error: 18, isSigned: true, otherBytes: 6 },
  { what: "a clock that is ahead", signer: { atSeconds: NOW + 301 }, code: 9, error: 18, isSigned: true, otherBytes: 6 },
  {
    what: "a clock within the signer's own fudge and not within ours",
    signer: { atSeconds: NOW - 600, fudgeSeconds: 3600 },
    code: 9,
    error: 18,
    isSigned: true,
    otherBytes: 6,
  },
  {
    what: "a clock within our fudge and not within the signer's own",
    signer: { atSeconds: NOW - 200, fudgeSeconds: 100 },
    code: 9,
    error: 18,
    isSigned: true,
    otherBytes: 6,
  },
  { what: "a key that is not known", signer: { key: "x.example" }, code: 9, error: 17, isSigned: false },
  { what: "the key with another algorithm", signer: { algorithm: "hmac-sha512", macBytes: 64 }, code: 9, error: 17, isSigned: false },
  { what: "another secret", signer: { secret: Buffer.from("another secret..") }, code: 9, error: 16, isSigned: false },
  { what: "a cut signature", signer: { macBytes: 16, atSeconds: NOW - 200 }, code: 9, error: 22, isSigned: true },
])("$what is answered with the code $code and the error $error", ({ signer, code, error, isSigned, otherBytes = 0 }) => {
  const { bytes, mac } = signedBy(signer, QUESTION);
  const { bytes: answer, code: told } = respond(bytes);
  const asked = complete(signer);
  const lower = { ...asked, key: asked.key.toLowerCase() };
  const tsig = readTsig(answer, lower);
  expect([told, tsig.error, tsig.other.length]).toEqual([code, error, otherBytes]);
  const own = { ...lower, atSeconds: tsig.atSeconds, fudgeSeconds: 300 };
  const right = hmac(own, u16(mac.length), mac, tsig.plain, variables(own, error, Buffer.from(tsig.other)));
  expect(tsig.mac.toString("hex")).toBe(isSigned ? right.toString("hex") : "");
  // Whose clock is wrong finds its own time again, and ours behind it (RFC 8945, 5.2.3).
  expect(tsig.atSeconds).toBe(error === 18 || !isSigned ? asked.atSeconds : NOW);
  if (error === 0) expect(answer.includes(Buffer.of(0, 4, 10, 0, 0, 1))).toBe(true);
});

test("a signed answer over UDP is within its limit together with its signature", () => {
  for (let count = 20; count < 32; count++) {
    const targets = Array.from({ length: count }, (_, i) => ({ host: `10.0.1.${i}` }));
    const many = new FakeDnsCatalog([entryView({ name: "web", targets })]);
    const reply = newResponder().respond(signedBy({}, QUESTION).bytes, "udp", () => onlyView(many));
    expect([count, (reply?.bytes.length ?? 0) <= 512]).toEqual([count, true]);
  }
});

test.each([
  { what: "a signature of less than half its length", bytes: signedBy({ macBytes: 10 }, QUESTION).bytes },
  { what: "no signature in the record", bytes: signedBy({ macBytes: 0 }, QUESTION).bytes },
  { what: "two of them", bytes: signedBy({}, signedBy({}, QUESTION).bytes).bytes },
])("$what is malformed", ({ bytes }) => {
  expect(respond(bytes).code).toBe(1);
});

test("a signed message cut at any byte, or with any byte changed, is never answered as the signer's, and never throws", () => {
  const { bytes } = signedBy({}, questionBytes(AXFR, "waymark"));
  for (let i = 0; i < bytes.length; i++) {
    const cut = newResponder().respond(bytes.subarray(0, i), "tcp", () => onlyView(catalog));
    expect(cut?.transfer).toBeUndefined();
    const changed = Buffer.from(bytes);
    changed[i] = (changed[i] ?? 0) ^ 1;
    const reply = newResponder().respond(changed, "tcp", () => onlyView(catalog));
    // The id is not signed: the original one is.
    if (i >= 2) expect([i, reply?.transfer]).toEqual([i, undefined]);
  }
});

test.each<{ what: string; name: string; transport?: "tcp" | "udp"; mayBegin?: boolean; isSigned?: boolean; code: number; zone?: string }>([
  { what: "a signed question", name: "waymark", code: 0, zone: "waymark" },
  { what: "another zone", name: "other", code: 9 },
  { what: "a name within a zone", name: "market.waymark", code: 9 },
  { what: "a question over UDP", name: "waymark", transport: "udp", code: 5 },
  { what: "one transfer too many", name: "waymark", mayBegin: false, code: 5 },
  { what: "a question without a signature", name: "waymark", isSigned: false, code: 5 },
])("$what for a zone is answered with $code", ({ name, transport, mayBegin, isSigned = true, code, zone }) => {
  const query = questionBytes(AXFR, name);
  const reply = respond(isSigned ? signedBy({}, query).bytes : query, transport, newResponder({ mayBegin }));
  expect([reply.code, reply.transfer?.zone]).toEqual([code, zone]);
});

/** A question for what is newer than this serial (RFC 1995, 3). */
function ixfr(serial: number | undefined, name = "waymark"): Buffer {
  const question = Buffer.from(questionBytes(251, name));
  if (serial === undefined) return question;
  question.writeUInt16BE(1, 8);
  const numbers = Buffer.alloc(20);
  numbers.writeUInt32BE(serial);
  const data = Buffer.concat([Buffer.of(0xc0, 12, 0xc0, 12), numbers]);
  return Buffer.concat([question, Buffer.of(0xc0, 12), u16(6), u16(1), Buffer.alloc(4), u16(data.length), data]);
}

const u32 = (value: number) => Buffer.concat([u16(Math.floor(value / 65_536)), u16(value % 65_536)]);
const HALF = 0x8000_0000;
test.each<{
  what: string;
  serial: number | undefined;
  own?: number;
  transport?: "tcp" | "udp";
  name?: string;
  isSigned?: boolean;
  told: string;
}>([
  { what: "an older version", serial: 99, told: "zone" },
  { what: "an older version, before the serial went round", serial: 0xffff_fff0, told: "zone" },
  { what: "the same version", serial: 100, told: "soa" },
  { what: "a newer version", serial: 101, told: "soa" },
  { what: "a newer version that went round", serial: 5, own: 0xffff_fff0, told: "soa" },
  { what: "just what counts as newer", serial: 99 + HALF, told: "soa" },
  { what: "just what counts as older", serial: 101 + HALF, told: "zone" },
  { what: "an older version, over UDP", serial: 99, transport: "udp", told: "soa" },
  { what: "no version", serial: undefined, told: "code 1" },
  { what: "another zone", serial: 99, name: "other", told: "code 9" },
  { what: "an older version, without a signature", serial: 99, isSigned: false, told: "code 5" },
  { what: "an older version, without a signature and over UDP", serial: 99, isSigned: false, transport: "udp", told: "code 5" },
])(
  "a question for what is newer (IXFR) with $what is answered with $told",
  ({ serial, own = 100, transport, name, isSigned = true, told }) => {
    const query = ixfr(serial, name);
    const reply = respond(isSigned ? signedBy({}, query).bytes : query, transport, newResponder({ serial: own }));
    // The question as it came, and one record, the SOA of the zone with its serial.
    const isSoa = [6, 7].every((at) => reply.bytes[at] === (at === 7 ? 1 : 0)) && reply.bytes.includes(u32(own));
    const what = reply.transfer === undefined ? (isSoa ? "soa" : `code ${reply.code}`) : "zone";
    const question = Buffer.from(questionBytes(251, name ?? "waymark")).subarray(12);
    expect([what, reply.bytes.subarray(12, 12 + question.length).toString("hex")]).toEqual([told, question.toString("hex")]);
  },
);

test("a zone of names of addresses is sent as well, and of another class none", () => {
  const responder = newResponder({ reverseZones: ["10.in-addr.arpa"] });
  const told = (name: string, dnsClass = 1) => {
    const { code, transfer } = respond(signedBy({}, questionBytes(AXFR, name, dnsClass)).bytes, "tcp", responder);
    return [code, transfer?.zone];
  };
  expect([told("10.in-addr.arpa"), told("11.in-addr.arpa"), told("waymark", 3)]).toEqual([
    [0, "10.in-addr.arpa"],
    [9, undefined],
    [5, undefined],
  ]);
});

test("what a secondary has stands in the authority section alone (RFC 1995, 3)", () => {
  const query = ixfr(1);
  query.writeUInt16BE(0, 8);
  query.writeUInt16BE(1, 10);
  expect([respond(signedBy({}, ixfr(1)).bytes).code, respond(signedBy({}, query).bytes).code]).toEqual([0, 1]);
});

test("over TLS that is not as RFC 9103 wants it, no zone is sent (extended error 21), and questions are answered", () => {
  const sender = { address: "127.0.0.1", monoMs: 0, room: "all", mayTransfer: false } as const;
  const told = (type: "A" | typeof AXFR, name: string) => {
    const query = Buffer.concat([questionBytes(type, name), Buffer.of(0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0)]);
    query.writeUInt16BE(1, 10);
    const reply = newResponder().respond(signedBy({}, query).bytes, "dot", () => onlyView(catalog), sender);
    return [reply?.rcode, reply?.transfer, Buffer.from(reply?.bytes ?? "").includes(Buffer.of(0, 15, 0, 2, 0, 21))];
  };
  expect([told(AXFR, "waymark"), told("A", "web.market.waymark")]).toEqual([
    ["REFUSED", undefined, true],
    ["NOERROR", undefined, false],
  ]);
});

test.each([
  { algorithm: "hmac-sha256", macBytes: 32 },
  { algorithm: "hmac-sha512", macBytes: 64 },
] as const)("a padded answer has a multiple of 468 bytes together with its signature by $algorithm", ({ algorithm, macBytes }) => {
  const query = Buffer.concat([QUESTION, Buffer.of(0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 12, 0, 0)]);
  query.writeUInt16BE(1, 10);
  const reply = newResponder({ algorithm }).respond(signedBy({ algorithm, macBytes }, query).bytes, "dot", () => onlyView(catalog));
  expect([reply?.rcode, reply?.bytes.length]).toEqual(["NOERROR", 468]);
});

test("a resolver sends no zone, and says that it does not (extended error 21)", () => {
  const query = Buffer.concat([questionBytes(AXFR, "waymark"), Buffer.of(0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0)]);
  query.writeUInt16BE(1, 10);
  const remoteLookup = Object.assign(new FakeDnsCatalog(), {
    remoteLookup: { isFollowed: () => true, begin: () => 0, isCurrent: () => true },
  });
  const reply = newResponder().respond(signedBy({}, query).bytes, "tcp", () => onlyView(remoteLookup));
  expect([reply?.rcode, reply?.transfer]).toEqual(["REFUSED", undefined]);
  expect(Buffer.from(reply?.bytes ?? "").includes(Buffer.of(0, 15, 0, 2, 0, 21))).toBe(true);
});

test.each([
  { what: "a dot", owner: Buffer.from([1, 0x2e, 0]) },
  { what: "dots at its end", owner: Buffer.from([3, 0x61, 0x2e, 0x2e, 0]) },
  { what: "a backslash and a letter of Latin 1", owner: Buffer.from([3, 0x5c, 0xe9, 0xc9, 0]) },
  { what: "the text of a key", owner: Buffer.concat([Buffer.from([9]), Buffer.from("k.example"), Buffer.from([0])]) },
])("the name of a key with $what in one label is no known key, and comes back as it was", ({ owner }) => {
  const { bytes } = signedBy({}, QUESTION);
  const rest = bytes.subarray(QUESTION.length + wire("k.example").length);
  const { bytes: answer, code } = respond(Buffer.concat([bytes.subarray(0, QUESTION.length), owner, rest]));
  // BADKEY, and no more data.
  expect([code, answer.subarray(-4)]).toEqual([9, Buffer.from([0, 17, 0, 0])]);
  expect(answer.includes(Buffer.concat([owner, u16(250), u16(255)]))).toBe(true);
});

/** The same message with the name of the key written as `k` and a pointer. */
function pointing(to: number): { readonly bytes: Buffer; readonly mac: Buffer } {
  const question = questionBytes("A", "web.example");
  const { bytes, mac } = signedBy({}, question);
  const rest = bytes.subarray(question.length + wire("k.example").length);
  return { bytes: Buffer.concat([bytes.subarray(0, question.length), Buffer.of(1, "k".charCodeAt(0), 0xc0, to), rest]), mac };
}

test("the name of a key may end in that of the question, as some libraries write it", () => {
  const { bytes } = pointing(12 + 4);
  const { bytes: answer, code } = respond(bytes);
  expect([code, readTsig(answer, complete({})).error]).toEqual([5, 0]);
});

test.each([255, 12 + 13 + 4, 12 + 13 + 6])("a name of a key that points to %i, which is no name before it, is malformed", (to) => {
  const { code } = respond(pointing(to).bytes);
  expect(code).toBe(1);
});

test.each(["udp", "tcp"] as const)(
  "over %s, whatever the names of key and algorithm are and however often it is asked, an answer keeps to its size",
  (transport) => {
    const responder = newResponder();
    const question = questionBytes("A", [...Array.from({ length: 3 }, () => "q".repeat(63)), "w".repeat(52), "waymark"].join("."));
    const nameOf = (length: number) =>
      Array.from({ length: Math.ceil(length / 60) }, (_, i) => "n".repeat(Math.min(60, length - i * 60))).join(".");
    const sizes = [1, 60, 120, 180, 240];
    const seen = new Set<number>();
    // Answers over UDP are parts of one buffer: each size comes at many places of it.
    for (let round = 0; round < 40; round++) {
      for (const key of sizes) {
        for (const algorithm of sizes) {
          for (const macBytes of [0, 32, 300]) {
            const plain = signedBy({ macBytes: 0 }, question);
            const tsig = Buffer.concat([wire(nameOf(algorithm)), Buffer.alloc(8), u16(macBytes), Buffer.alloc(macBytes + 6)]);
            const head = Buffer.concat([question, wire(nameOf(key)), u16(250), u16(255), u16(0), u16(0), u16(tsig.length)]);
            const bytes = Buffer.concat([head, tsig]);
            plain.bytes.copy(bytes, 10, 10, 12);
            const { bytes: answer, code } = respond(bytes, transport, responder);
            expect(answer.length).toBeLessThanOrEqual(transport === "udp" ? 512 : 65_535);
            seen.add(code);
          }
        }
      }
    }
    // NOTAUTH, and FORMERR where the record finds no room.
    expect([...seen].toSorted((a, b) => a - b)).toEqual(transport === "udp" ? [1, 9] : [9]);
  },
);

test("over UDP with a cookie, too, an answer keeps to its size, whatever the name of the key is", () => {
  const responder = newResponder();
  const question = questionBytes("A", [...Array.from({ length: 3 }, () => "q".repeat(63)), "waymark"].join("."));
  const opt = Buffer.from("000029020000000000000c000a00082464c4abcf10c957", "hex");
  const seen = new Set<number>();
  for (let length = 1; length <= 250; length++) {
    const key = Array.from({ length: Math.ceil(length / 60) }, (_, i) => "n".repeat(Math.min(60, length - i * 60))).join(".");
    const query = Buffer.concat([question, opt]);
    query.writeUInt16BE(1, 10);
    const { bytes, code } = respond(signedBy({ key }, query).bytes, "udp", responder);
    expect(bytes.length).toBeLessThanOrEqual(512);
    seen.add(code);
  }
  // NOTAUTH, and FORMERR where the record finds no room.
  expect([...seen]).toEqual([9, 1]);
});
