/** Signed answers (DNSSEC): each is checked by a validator of its own, which knows only the keys that the zone tells. */
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type AnswerPlan, RCODE } from "../../../src/dns/plan/answer.ts";
import { drawAnswer } from "../../../src/dns/plan/answer-draw.ts";
import { DnsResponder } from "../../../src/dns/server/responder.ts";
import { ZoneSigner } from "../../../src/dns/signing/zone-signer.ts";
import type { DnsCatalog } from "../../../src/dns/subject/subject.ts";
import { onlyView } from "../../../src/dns/views/query-client.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import {
  denialOf,
  newKey,
  ownerOf,
  readMessage,
  signatureFaults,
  signedQuery,
  TestKeys,
  TYPE,
  type WireMessage,
} from "../../fakes/dnssec.ts";
import { runs } from "../../fakes/effort.ts";
import { SETTINGS } from "../../fakes/options.ts";

const START_MS = Date.UTC(2026, 10, 27);
const DAY_MS = 86_400_000;

/** With `waymark` these labels take 252 bytes, so a label of one byte makes a name of 254. */
const BELOW_244 = [...Array.from({ length: 3 }, () => "x".repeat(63)), "y".repeat(50)];
const BELOW_243 = [...BELOW_244.slice(0, 3), "y".repeat(49)];

function wireOf(labels: readonly string[]): string {
  return ownerOf([...labels, "waymark"].join("."));
}

/** A gateway with keys, and its clock. */
function newWorld(
  catalog: DnsCatalog,
  {
    keys = new TestKeys(),
    answerLimit = undefined as number | undefined,
    bySubnet = false,
    negativeTtlMs = TEST_DNS_SETTINGS.negativeTtlMs,
    zones = TEST_DNS_SETTINGS.zones,
    maxNegativePlans = undefined as number | undefined,
    reverseZones = ["10.in-addr.arpa"] as readonly string[],
  } = {},
) {
  const time = { monoMs: 0, wallMs: START_MS };
  const signer = new ZoneSigner({ keys, now: () => time });
  const settings = { ...TEST_DNS_SETTINGS, negativeTtlMs, zones, reverseZones, zoneKeys: () => signer.keys };
  let serial = 1;
  const responder = new DnsResponder({
    settings,
    planBytes: SETTINGS.dns.planBytes,
    maxNegativePlans,
    random: () => 0.5,
    signer,
    serialOf: () => serial,
  });
  const selected = { ...onlyView(catalog), isBySubnet: bySubnet };
  if (answerLimit !== undefined) Object.assign(catalog.view, { answerLimit });
  const raw = (bytes: Uint8Array, transport: "udp" | "tcp" = "tcp") => {
    const reply = responder.respond(bytes, transport, () => selected);
    if (reply === undefined) throw new Error("no answer");
    return reply;
  };
  const ask = (
    name: string,
    type: number,
    more: Parameters<typeof signedQuery>[2] & { readonly transport?: "udp" | "tcp" } = {},
  ): WireMessage => readMessage(raw(signedQuery(name, type, more), more.transport).bytes);
  const keysOf = (zone: string) => ask(zone, TYPE.DNSKEY).answers.flatMap(({ type, data }) => (type === TYPE.DNSKEY ? [data] : []));
  const faults = ({ answers, authority }: WireMessage, zone = "waymark") => {
    const now = Math.floor(time.wallMs / 1000);
    return [...signatureFaults(answers, keysOf(zone), now), ...signatureFaults(authority, keysOf(zone), now)];
  };
  return {
    setBySubnet: (is: boolean) => Object.assign(selected, { isBySubnet: is }),
    ask,
    raw,
    faults,
    time,
    keys,
    signer,
    responder,
    setSerial: (next: number) => (serial = next),
  };
}

const web = entryView({ name: "web", aliases: ["shop"], targets: [{ host: "10.0.0.1" }, { host: "2001:db8::2" }, { host: "10.0.0.3" }] });
const far = entryView({ name: "far", instanceId: "f", targets: [{ host: "Far.Example.COM" }] });
const catalog = () => new FakeDnsCatalog([web, far]);
const names = [
  "web.market.waymark",
  "_svc._tcp.web.market.waymark",
  "far.market.waymark",
  "_svc._tcp.far.market.waymark",
  "shop.waymark",
  "waymark",
  "market.waymark",
  "10-0-0-1.addr.node.waymark",
  "nope.market.waymark",
  "*.market.waymark",
  "1.0.0.10.in-addr.arpa",
  "9.9.9.10.in-addr.arpa",
  "10.in-addr.arpa",
];

test("every set of every answer has a good signature, and a denial covers its name alone and tells the types that are there", () => {
  const world = newWorld(catalog());
  const types = [
    TYPE.A,
    TYPE.NS,
    TYPE.CNAME,
    TYPE.SOA,
    TYPE.PTR,
    TYPE.TXT,
    TYPE.AAAA,
    TYPE.SRV,
    TYPE.DNSKEY,
    TYPE.CDS,
    TYPE.CDNSKEY,
    TYPE.NSEC,
    TYPE.RRSIG,
    64,
    65,
    255,
    4711,
  ];
  for (const name of names) {
    const zone = name.endsWith("arpa") ? "10.in-addr.arpa" : "waymark";
    const there = types.filter(
      (type) =>
        type < 255 &&
        type !== TYPE.RRSIG &&
        world.ask(name, type).answers.some((record) => record.type === type && record.owner === ownerOf(name)),
    );
    for (const type of types) {
      const message = world.ask(name, type);
      expect([name, type, world.faults(message, zone), message.rcode, message.isCut]).toEqual([name, type, [], 0, false]);
      expect(message.additional).toEqual([]);
      for (const denial of message.authority.filter((record) => record.type === TYPE.NSEC)) {
        const { types: told, isMinimal, isAbsent } = denialOf(denial);
        expect([isMinimal, told.includes(type)]).toEqual([true, false]);
        if (denial.owner !== ownerOf(name)) continue;
        expect(told.filter((each) => each !== TYPE.RRSIG && each !== 128)).toEqual(
          [...new Set([...there, TYPE.NSEC])].toSorted((a, b) => a - b),
        );
        expect(isAbsent).toBe(["nope.market.waymark", "*.market.waymark", "9.9.9.10.in-addr.arpa"].includes(name));
      }
    }
  }
});

test("a name that does not exist is NOERROR with a signed denial, NXDOMAIN for who says CO or asks without DO", () => {
  const world = newWorld(catalog());
  expect([{}, { isCompactOk: true }, { isDnssecOk: false }].map((flags) => world.ask("no.waymark", TYPE.A, flags).rcode)).toEqual([
    0, 3, 3,
  ]);
  expect(world.ask("no.waymark", TYPE.A, { isDnssecOk: false }).authority.map(({ type }) => type)).toEqual([TYPE.SOA]);
  const signed = world.ask("no.waymark", TYPE.A, { isCompactOk: true });
  // CO comes back with every answer that is signed.
  const flagsOf = (name: string, flags: Parameters<typeof signedQuery>[2]) => world.ask(name, TYPE.A, flags).optFlags;
  expect([signed.optFlags, flagsOf("web.market.waymark", { isCompactOk: true })]).toEqual([0xc000, 0xc000]);
  expect([flagsOf("no.waymark", {}), flagsOf("no.waymark", { isDnssecOk: false, isCompactOk: true })]).toEqual([0x8000, 0]);
  expect(signed.authority.map(({ type }) => type).toSorted((a, b) => a - b)).toEqual([TYPE.SOA, TYPE.RRSIG, TYPE.RRSIG, TYPE.NSEC]);
  expect(world.faults(signed)).toEqual([]);
});

test("where a zone begins in another one, that one signs the digest of its key as DS, and the zone itself denies nothing of it", () => {
  const keys = new TestKeys(2);
  const zones = ["waymark", "a.svc.waymark"];
  const world = newWorld(catalog(), { keys, zones, reverseZones: ["10.in-addr.arpa", "1.10.in-addr.arpa"] });
  for (const { cut, above } of [
    { cut: "a.svc.waymark", above: "waymark" },
    { cut: "1.10.in-addr.arpa", above: "10.in-addr.arpa" },
  ]) {
    const signersOf = ({ answers }: WireMessage) =>
      answers.flatMap(({ type, data }) => (type === TYPE.RRSIG ? [data.toString("latin1", 18, data.length - 64)] : []));
    const told = world.ask(cut, TYPE.DS);
    expect([told.rcode, told.answers.map(({ type }) => type), told.authority]).toEqual([0, [TYPE.DS, TYPE.RRSIG], []]);
    expect([world.faults(told, above), signersOf(told)]).toEqual([[], [ownerOf(above)]]);
    const [digest] = world.ask(cut, TYPE.CDS).answers;
    expect(told.answers[0]?.data).toEqual(digest?.data);
    expect(signersOf(world.ask(cut, TYPE.SOA))).toEqual([ownerOf(cut)]);
    // The bit of DS is never in a denial of the zone below (RFC 4035, 2.4).
    expect(world.ask(cut, TYPE.A).authority.flatMap((record) => (record.type === TYPE.NSEC ? denialOf(record).types : []))).not.toContain(
      TYPE.DS,
    );
    // The names above the cut, and the zone that lies in no other one, have none.
    expect(world.ask(above, TYPE.DS).answers).toEqual([]);
    keys.replace(keys.keys.toReversed());
    expect(world.ask(cut, TYPE.DS).answers[0]?.data).not.toEqual(digest?.data);
  }
});

test("a question for NXNAME is malformed, and says so", () => {
  const reply = newWorld(catalog()).raw(signedQuery("web.market.waymark", 128));
  expect(readMessage(reply.bytes).rcode).toBe(1);
  expect(Buffer.from(reply.bytes).toString("hex")).toMatch(/000f0002001e$/);
});

test("who asks without DO gets the bytes of a gateway without keys, but for the keys themselves", () => {
  const [with_, without] = [
    newWorld(catalog()),
    new DnsResponder({
      settings: { ...TEST_DNS_SETTINGS, reverseZones: ["10.in-addr.arpa"] },
      planBytes: SETTINGS.dns.planBytes,
      random: () => 0.5,
      serialOf: () => 1,
    }),
  ];
  const plain = catalog();
  for (const name of names)
    for (const type of [1, 2, 6, 12, 16, 28, 33, 46, 47, 64, 255]) {
      const query = signedQuery(name, type, { isDnssecOk: false });
      const want = without.respond(query, "udp", () => onlyView(plain));
      expect(Buffer.from(with_.raw(query, "udp").bytes)).toEqual(Buffer.from(want?.bytes ?? []));
    }
});

test("a signed set is whole or not there: TC over UDP, SERVFAIL where no message holds it, and answer_limit does not count", () => {
  const many = (count: number) =>
    new FakeDnsCatalog(
      Array.from({ length: count }, (_, i) =>
        entryView({ name: "many", instanceId: `${i}`, targets: [{ host: `10.1.${i >> 8}.${i & 255}` }] }),
      ),
    );
  const world = newWorld(many(100), { answerLimit: 5 });
  const udp = world.ask("many.market.waymark", TYPE.A, { transport: "udp" });
  expect([udp.isCut, udp.answers, udp.rcode]).toEqual([true, [], 0]);
  const tcp = world.ask("many.market.waymark", TYPE.A);
  expect([tcp.isCut, tcp.answers.length, world.faults(tcp)]).toEqual([false, 101, []]);
  const beyond = newWorld(many(4200));
  const large = beyond.ask("many.market.waymark", TYPE.A);
  expect([large.rcode, large.answers, large.isCut]).toEqual([2, [], false]);
  expect(beyond.raw(signedQuery("many.market.waymark", TYPE.A))).toMatchObject({ rcode: "SERVFAIL", isTruncated: false });
  expect(beyond.ask("many.market.waymark", TYPE.A, { transport: "udp" })).toMatchObject({ rcode: 0, isCut: true, answers: [] });
});

test("what is only a sample of a crowded name is not signed: TC over UDP, and SERVFAIL over TCP", () => {
  class Crowded extends FakeDnsCatalog {
    override takeSampled(): boolean {
      return true;
    }
  }
  const world = newWorld(new Crowded([web]));
  expect(world.ask("web.market.waymark", TYPE.A)).toMatchObject({ rcode: 2, answers: [], isCut: false });
  expect(world.ask("web.market.waymark", TYPE.A, { transport: "udp" })).toMatchObject({ rcode: 0, answers: [], isCut: true });
  // Whoever wants no signature gets the sample.
  expect(world.ask("web.market.waymark", TYPE.A, { isDnssecOk: false }).answers).toHaveLength(2);
});

test("signatures live with their plans, for a day, and the SOA has one for each version", () => {
  const world = newWorld(catalog());
  const signatureCount = () => world.keys.signCount;
  world.ask("web.market.waymark", TYPE.A);
  world.ask("web.market.waymark", TYPE.A);
  expect(signatureCount()).toBe(1);
  world.ask("a.waymark", TYPE.A);
  world.ask("b.waymark", TYPE.A);
  expect(signatureCount()).toBe(4);
  // All types that a name does not have share one denial, also through an alias, whose CNAME is signed with each plan: made-up types have one. One signature is that of the keys.
  for (const { name, count } of [
    { name: "web.market.waymark", count: 6 },
    { name: "shop.waymark", count: 9 },
  ]) {
    for (const type of [1000, 1001, TYPE.SRV, TYPE.PTR]) expect(world.faults(world.ask(name, type))).toEqual([]);
    expect(signatureCount()).toBe(count);
  }
  world.setSerial(2);
  expect(world.faults(world.ask("a.waymark", TYPE.A))).toEqual([]);
  const before = signatureCount();
  world.time.wallMs += DAY_MS - 1000;
  expect(world.faults(world.ask("web.market.waymark", TYPE.A))).toEqual([]);
  expect(signatureCount()).toBe(before);
  world.time.wallMs += 2000;
  expect(world.faults(world.ask("web.market.waymark", TYPE.A))).toEqual([]);
  expect(signatureCount()).toBeGreaterThan(before);
  // Set back by more than signatures are valid before now, and less than that.
  for (const backMs of [10 * DAY_MS, 2 * 3_600_000, 45 * 60_000, 20 * 60_000]) {
    world.time.wallMs -= backMs;
    for (const name of ["web.market.waymark", "a.waymark"]) expect(world.faults(world.ask(name, TYPE.A))).toEqual([]);
  }
});

test("signatures of the SOA of some hundred versions are kept, and no more", () => {
  const world = newWorld(catalog());
  const made = (serial: number) => {
    world.setSerial(serial);
    const before = world.keys.signCount;
    world.ask("waymark", TYPE.SOA);
    return world.keys.signCount - before;
  };
  made(0);
  for (let serial = 1; serial < 512; serial++) expect([made(serial), made(serial)]).toEqual([1, 0]);
  expect([made(0), made(512), made(512), made(0)]).toEqual([0, 1, 0, 1]);
});

test("a signature is good for who is nearly an hour behind, and after a day in a cache", () => {
  const world = newWorld(catalog());
  const message = world.ask("web.market.waymark", TYPE.A);
  const nowSeconds = START_MS / 1000;
  const keys = world.ask("waymark", TYPE.DNSKEY).answers.flatMap(({ type, data }) => (type === TYPE.DNSKEY ? [data] : []));
  for (const offset of [-3540, 0, (2 * DAY_MS) / 1000])
    expect([offset, signatureFaults(message.answers, keys, nowSeconds + offset)]).toEqual([offset, []]);
});

test("a denial says that it and its signature are there, and is kept no longer than the SOA says", () => {
  const world = newWorld(catalog(), { negativeTtlMs: 7_000 });
  for (const name of names) {
    const { authority } = world.ask(name, 4711);
    const denials = authority.filter(({ type }) => type === TYPE.NSEC);
    const soa = authority.find(({ type }) => type === TYPE.SOA);
    const negativeSeconds = Math.min(soa?.ttl ?? 0, soa?.data.readUInt32BE(soa.data.length - 4) ?? 0);
    for (const denial of denials) {
      expect([name, denialOf(denial).types]).toEqual([name, expect.arrayContaining([TYPE.RRSIG, TYPE.NSEC])]);
      expect([name, denial.ttl]).toEqual([name, negativeSeconds]);
    }
  }
});

test("one gateway signs the SOA of denials by subnet and of others, whichever is asked for first", () => {
  const world = newWorld(catalog());
  for (const isBySubnet of [false, true, false]) {
    world.setBySubnet(isBySubnet);
    expect([isBySubnet, world.faults(world.ask("nope.waymark", TYPE.A))]).toEqual([isBySubnet, []]);
    expect([isBySubnet, world.faults(world.ask("waymark", TYPE.SOA))]).toEqual([isBySubnet, []]);
  }
});

test("5,000 fresh signatures are made a second; beyond that TC, and a thousand of them only over TCP, which then says SERVFAIL", {
  tags: ["night"],
}, () => {
  const world = newWorld(catalog());
  const outcomes = (transport: "udp" | "tcp", from: number) =>
    Array.from({ length: 6000 }, (_, i) => world.ask(`n${from + i}.waymark`, TYPE.A, { transport })).map(({ isCut, rcode }) =>
      isCut ? "cut" : rcode,
    );
  const udp = outcomes("udp", 0);
  // One of them is that of SOA.
  expect([udp.filter((each) => each === 0).length, udp.filter((each) => each === "cut").length]).toEqual([3999, 2001]);
  const tcp = outcomes("tcp", 10_000);
  expect([tcp.filter((each) => each === 0).length, tcp.filter((each) => each === 2).length]).toEqual([1000, 5000]);
  expect(world.signer.madeCount).toBe(5000);
  world.time.monoMs += 1000;
  expect(world.ask("n7000.waymark", TYPE.A, { transport: "udp" }).isCut).toBe(false);
});

describe("a change of keys", () => {
  test("the first key signs, both sign the keys, CDS is of the first, and new keys end what is kept", () => {
    const keys = new TestKeys(2);
    const world = newWorld(catalog(), { keys });
    const tags = (name: string, type: number) =>
      world.ask(name, type).answers.flatMap((record) => (record.type === TYPE.RRSIG ? [record.data.readUInt16BE(16)] : []));
    const [old, next] = keys.keys.map(({ keyTag }) => keyTag);
    expect([TYPE.DNSKEY, TYPE.CDS, TYPE.CDNSKEY].map((type) => tags("waymark", type)).concat([tags("web.market.waymark", TYPE.A)])).toEqual(
      [[old, next], [old, next], [old, next], [old]],
    );
    expect(world.ask("waymark", TYPE.CDS).answers[0]?.data.readUInt16BE(0)).toBe(old);
    const faultsOfStart = () => ["waymark", "nope.waymark"].map((name) => world.faults(world.ask(name, TYPE.SOA)));
    expect(faultsOfStart()).toEqual([[], []]);
    keys.replace(keys.keys.toReversed());
    expect([tags("web.market.waymark", TYPE.A), world.ask("waymark", TYPE.CDS).answers[0]?.data.readUInt16BE(0)]).toEqual([[next], next]);
    expect(world.faults(world.ask("web.market.waymark", TYPE.A))).toEqual([]);
    expect(tags("waymark", TYPE.SOA)).toEqual([next]);
    keys.replace([newKey()]);
    expect(faultsOfStart()).toEqual([[], []]);
    expect(world.ask("waymark", TYPE.DNSKEY, { isDnssecOk: false }).answers).toHaveLength(1);
    expect(world.faults(world.ask("nope.waymark", TYPE.A))).toEqual([]);
  });
});

test("a negative answer in a view that a subnet chose has TTL 0 throughout, and its signatures hold", () => {
  const world = newWorld(catalog(), { bySubnet: true });
  for (const name of ["nope.waymark", "web.market.waymark"]) {
    const message = world.ask(name, TYPE.NS);
    expect([message.authority.map(({ ttl }) => ttl), world.faults(message)]).toEqual([[0, 0, 0, 0], []]);
  }
});

test("the validator of these tests takes nothing that was altered", () => {
  const world = newWorld(catalog());
  const message = world.ask("web.market.waymark", TYPE.A);
  const [set, signature] = [message.answers.filter(({ type }) => type === TYPE.A), message.answers.find(({ type }) => type === TYPE.RRSIG)];
  if (signature === undefined) throw new Error("no signature");
  for (let at = 0; at < signature.data.length; at++) {
    const data = Buffer.from(signature.data);
    data[at] = (data[at] ?? 0) ^ 0x80;
    expect(world.faults({ ...message, answers: [...set, { ...signature, data }] })).not.toEqual([]);
  }
  expect(world.faults({ ...message, answers: [...set.slice(1), signature] })).not.toEqual([]);
});

test.each([
  { why: "room below it", labels: ["a", "b"], want: "\u0001\0\u0001a\u0001b\u0007waymark\0" },
  { why: "just room below it", labels: ["a", ...BELOW_243], want: `\u0001\0\u0001a${wireOf(BELOW_243)}` },
  { why: "room for one byte", labels: ["a", ...BELOW_244], want: `\u0002a\0${wireOf(BELOW_244)}` },
  { why: "no room", labels: ["aa", ...BELOW_244], want: `\u0002ab${wireOf(BELOW_244)}` },
  { why: "no room, and @ before the capitals", labels: ["a@", ...BELOW_244], want: `\u0002a[${wireOf(BELOW_244)}` },
  { why: "no room, and the last byte there is", labels: ["a\u00ff", ...BELOW_244], want: `\u0001b${wireOf(BELOW_244)}` },
])("a name with $why is denied up to the next that there can be", ({ labels, want }) => {
  const world = newWorld(catalog());
  const message = world.ask([...labels, "waymark"].join("."), TYPE.A);
  expect(world.faults(message)).toEqual([]);
  const [denial] = message.authority.filter(({ type }) => type === TYPE.NSEC);
  expect(denial?.data.toString("latin1").startsWith(want)).toBe(true);
});

test("any name is denied by a good signature, also one of odd bytes or without room below it", () => {
  const world = newWorld(catalog());
  const label = fc.string({
    unit: fc
      .integer({ min: 0, max: 255 })
      .filter((byte) => byte !== 46)
      .map((byte) => String.fromCharCode(byte)),
    minLength: 1,
    maxLength: 63,
  });
  const name = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join(".").slice(0, 245).replace(/\.$/, "x"));
  fc.assert(
    fc.property(name, (text) => {
      world.time.monoMs += 1000;
      const message = world.ask(`${text}.waymark`, TYPE.A);
      expect(world.faults(message)).toEqual([]);
      const [denial] = message.authority.filter(({ type }) => type === TYPE.NSEC);
      expect(denial && denialOf(denial).isAbsent).toBe(true);
    }),
    { numRuns: runs(200) },
  );
});

test("a limit of answers draws nothing from a signed set, also where records are drawn that are no message", () => {
  const groups = [
    [1, 2, 3].map((last) => ({ type: "A" as const, name: "web", ttlSeconds: 5, data: { address: Uint8Array.of(10, 0, 0, last) } })),
  ];
  const plan: AnswerPlan = { rcode: RCODE.NOERROR, isAuthoritative: true, groups, authority: [], glue: new Map() };
  const drawn = (signed: AnswerPlan["signed"]) => drawAnswer({ ...plan, signed }, { random: () => 0.5, answerLimit: 1 }).answers.length;
  expect([drawn(undefined), drawn({ sinceMs: 0, soa: undefined })]).toEqual([1, 3]);
});

test("who asks for the denials or signatures of made-up names takes no room of answers from the catalog, and is told only what they ask for", () => {
  const world = newWorld(catalog(), { maxNegativePlans: 20 });
  world.ask("web.market.waymark", TYPE.A);
  for (let i = 0; i < 60; i++) {
    const type = i % 2 === 0 ? TYPE.NSEC : TYPE.RRSIG;
    const { answers } = world.ask(`x${i}.waymark`, type);
    expect(answers.map((record) => record.type)).toEqual(type === TYPE.NSEC ? [TYPE.NSEC, TYPE.RRSIG] : [TYPE.RRSIG]);
  }
  expect(world.responder.plans.droppedCount).toBe(40);
});
