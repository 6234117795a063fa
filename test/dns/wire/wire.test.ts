import packet from "dns-packet";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type AnswerPlan, RCODE } from "../../../src/dns/plan/answer.ts";
import type { DnsRecord } from "../../../src/dns/records/record.ts";
import { DnsQuery } from "../../../src/dns/wire/dns-query.ts";
import { prepare } from "../../../src/dns/wire/prepared-response.ts";
import { ResponseWriter } from "../../../src/dns/wire/response.ts";
import { queryBytes, sectionLines } from "../../fakes/dns-text.ts";

function hex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ""), "hex"));
}

interface Encoding {
  readonly name?: string;
  readonly limitBytes?: number;
  readonly bufsize?: number | undefined;
  readonly answerLimit?: number;
}

const FACTS = {
  signatureBytes: 0,
  isCut: false,
  serial: undefined,
  soaSignature: undefined,
  isCompact: true,
  copiedFlags: 0x7900,
  extendedError: undefined,
  cookie: new Uint8Array(16),
  scopePrefix: 0,
  keepalive: undefined,
  isPadded: false,
  isUncached: false,
};

/** Each answer is a group of its own, so that their order stays. */
function encode(
  {
    answers = [],
    authority = [],
    glue = new Map(),
  }: { answers?: readonly DnsRecord[]; authority?: readonly DnsRecord[]; glue?: AnswerPlan["glue"] },
  { name = "web.market.waymark", limitBytes = 65_535, bufsize, answerLimit }: Encoding = {},
) {
  const query = new DnsQuery();
  query.read(queryBytes({ name, type: "A", bufsize }));
  const plan: AnswerPlan = { rcode: RCODE.NOERROR, isAuthoritative: true, groups: answers.map((record) => [record]), authority, glue };
  const writer = new ResponseWriter(() => 0);
  const bytes = writer.write(query, prepare(plan, name), { ...FACTS, limitBytes, answerLimit });
  return { bytes, isTruncated: writer.isTruncated };
}

const HOST = fc.array(fc.stringMatching(/^[a-z0-9-]{1,12}$/), { minLength: 1, maxLength: 4 }).map((labels) => labels.join("."));
const IN_ZONE = HOST.map((host) => `${host}.market.waymark`);
const U16 = fc.nat(65_535);
const U32 = fc.nat(0x7fff_ffff);
/** Any parameters of SVCB and HTTPS. */
const BINDING = fc.record({
  priority: U16,
  target: fc.oneof(HOST, IN_ZONE, fc.constant("")),
  mandatory: fc.constantFrom([], [3], [1, 3, 4]),
  alpn: fc.constantFrom([], ["h2"], ["http/1.1", "h2"]),
  isDefaultAlpnOff: fc.boolean(),
  port: U16,
  ipv4Hints: fc.array(fc.uint8Array({ minLength: 4, maxLength: 4 }), { maxLength: 3 }),
  ipv6Hints: fc.array(fc.uint8Array({ minLength: 16, maxLength: 16 }), { maxLength: 3 }),
});
const RECORD: fc.Arbitrary<DnsRecord> = fc
  .record({
    name: fc.oneof(HOST, IN_ZONE),
    ttlSeconds: U32,
    body: fc.oneof(
      fc.record({ type: fc.constant("A" as const), data: fc.record({ address: fc.uint8Array({ minLength: 4, maxLength: 4 }) }) }),
      fc.record({
        type: fc.constant("SRV" as const),
        data: fc.record({ priority: U16, weight: U16, port: U16, target: fc.oneof(HOST, IN_ZONE) }),
      }),
      fc.record({ type: fc.constant("CNAME" as const), data: fc.record({ target: fc.oneof(HOST, IN_ZONE) }) }),
      fc.record({ type: fc.constant("PTR" as const), data: fc.record({ target: fc.oneof(HOST, IN_ZONE) }) }),
      fc.record({ type: fc.constant("NS" as const), data: fc.record({ target: fc.oneof(HOST, IN_ZONE) }) }),
      fc.record({
        type: fc.constant("TXT" as const),
        data: fc.record({ strings: fc.array(fc.stringMatching(/^[!#-[\]-~]{0,255}$/), { minLength: 1, maxLength: 5 }) }),
      }),
      fc.record({
        type: fc.constant("SOA" as const),
        data: fc.record({
          primary: HOST,
          mailbox: IN_ZONE,
          serial: U32,
          refreshSeconds: U32,
          retrySeconds: U32,
          expireSeconds: U32,
          minimumSeconds: U32,
        }),
      }),
      fc.record({ type: fc.constantFrom("SVCB" as const, "HTTPS" as const), data: BINDING }),
      fc.record({ type: fc.constant("HINFO" as const), data: fc.record({ cpu: HOST, os: HOST }) }),
    ),
  })
  .map(({ name, ttlSeconds, body }) => ({ name, ttlSeconds, ...body }));
const RECORD_LIST = fc.array(RECORD, { maxLength: 12 });
/** A plan with addresses for some of the hosts that its answers name. */
const PLAN = fc
  .record({ answers: RECORD_LIST, authority: RECORD_LIST, counts: fc.array(fc.nat(3), { minLength: 12, maxLength: 12 }) })
  .map(({ answers, authority, counts }) => {
    const hosts = answers.flatMap(({ type, data }) => (type === "SRV" || type === "NS" ? [data.target] : []));
    const address = (name: string, i: number): DnsRecord => ({
      type: "A",
      name,
      ttlSeconds: i,
      data: { address: Uint8Array.of(10, 0, 0, i) },
    });
    const glue = new Map(hosts.map((host, i) => [host, Array.from({ length: counts[i] ?? 0 }, (_, n) => address(host, n))]));
    return { answers, authority, glue };
  });
const gluedLines = (glue: AnswerPlan["glue"]) => [...glue.values()].flat().map(lineOf);

/** The line dns-packet should read; it has no text for the zero-length parts that zone files quote. */
function lineOf(record: DnsRecord): string {
  const { name, ttlSeconds, type, data } = record;
  const head = `${name}. ${ttlSeconds} ${type}`;
  switch (type) {
    case "A":
    case "AAAA":
      return `${head} ${data.address.join(".")}`;
    case "SRV":
      return `${head} ${data.priority} ${data.weight} ${data.port} ${data.target}.`;
    case "CNAME":
    case "NS":
    case "PTR":
      return `${head} ${data.target}.`;
    case "TXT":
      return `${head} ${data.strings.map((text) => `"${text}"`).join(" ")}`;
    case "SOA":
      return `${head} ${data.primary}. ${data.mailbox}. ${data.serial} ${data.refreshSeconds} ${data.retrySeconds} ${data.expireSeconds} ${data.minimumSeconds}`;
    case "SVCB":
    case "HTTPS":
      return `${head} ${bindingText(data)}`;
    case "HINFO":
      return `${head} "${data.cpu}" "${data.os}"`;
    case "DNSKEY":
    case "CDNSKEY":
    case "CDS":
    case "DS":
    case "NSEC":
    case "RRSIG":
      throw new Error("test/dns/server/signing.test.ts draws these");
  }
}

function bindingText(data: (DnsRecord & { readonly type: "SVCB" })["data"]): string {
  const keys = ["mandatory", "alpn", "no-default-alpn", "port", "ipv4hint", "ech", "ipv6hint"];
  const ipv6 = (bytes: Uint8Array) => {
    const groups = Array.from({ length: 8 }, (_, i) => (((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0)).toString(16));
    return new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1);
  };
  return [
    data.priority,
    `${data.target}.`,
    ...(data.mandatory.length > 0 ? [`mandatory=${data.mandatory.map((key) => keys[key]).join()}`] : []),
    ...(data.alpn.length > 0 ? [`alpn="${data.alpn.join()}"`] : []),
    ...(data.isDefaultAlpnOff ? ["no-default-alpn"] : []),
    ...(data.port > 0 ? [`port=${data.port}`] : []),
    ...(data.ipv4Hints.length > 0 ? [`ipv4hint=${data.ipv4Hints.map((hint) => hint.join(".")).join()}`] : []),
    ...(data.ipv6Hints.length > 0 ? [`ipv6hint=${data.ipv6Hints.map(ipv6).join()}`] : []),
  ].join(" ");
}

const PLAIN = { mandatory: [], alpn: [], isDefaultAlpnOff: false, port: 0, ipv4Hints: [], ipv6Hints: [] };
const ASKED = "web.market.waymark";
const FOO = "03666f6f076578616d706c6503636f6d00";
const [DB8, DB8_53] = ["20010db8000000000000000000000001", "20010db8000000000000000000530001"];

test.each([
  { figure: 2, data: { ...PLAIN, priority: 0, target: "foo.example.com" }, want: `0000 ${FOO}` },
  { figure: 3, data: { ...PLAIN, priority: 1, target: "" }, want: "0001 00" },
  { figure: 4, data: { ...PLAIN, priority: 16, target: "foo.example.com", port: 53 }, want: `0010 ${FOO} 0003 0002 0035` },
  {
    figure: 7,
    data: { ...PLAIN, priority: 1, target: "foo.example.com", ipv6Hints: [hex(DB8), hex(DB8_53)] },
    want: `0001 ${FOO} 0006 0020 ${DB8} ${DB8_53}`,
  },
  {
    figure: 9,
    data: { ...PLAIN, priority: 16, target: "foo.example.org", mandatory: [4, 1], alpn: ["h2", "h3-19"], ipv4Hints: [hex("c0000201")] },
    want: "0010 03666f6f076578616d706c65036f726700 0000 0004 0001 0004 0001 0009 02 6832 05 68332d3139 0004 0004 c0000201",
  },
])("figure $figure of RFC 9460, appendix D, has its bytes", ({ data, want }) => {
  const { bytes } = encode({ answers: [{ type: "HTTPS", name: "web.market.waymark", ttlSeconds: 0, data }] });
  const rdata = Buffer.from(hex(want)).toString("hex");
  const length = (rdata.length / 2).toString(16).padStart(4, "0");
  expect(Buffer.from(bytes).toString("hex").endsWith(`0041000100000000${length}${rdata}`)).toBe(true);
});

test("dns-packet reads from a response what was put into it, names compressed or not", () => {
  fc.assert(
    fc.property(PLAN, (plan) => {
      const { bytes, isTruncated } = encode(plan);
      expect(isTruncated).toBe(false);
      expect(sectionLines(bytes, "answer")).toEqual(plan.answers.map(lineOf));
      expect(sectionLines(bytes, "authority")).toEqual(plan.authority.map(lineOf));
      expect(sectionLines(bytes, "additional")).toEqual(gluedLines(plan.glue));
    }),
  );
});

test("a response never exceeds its limit, and says TC exactly when an answer or authority is missing; a cut answer has a record if any fits", () => {
  fc.assert(
    fc.property(PLAN, fc.integer({ min: 512, max: 1232 }), fc.boolean(), (plan, limitBytes, hasEdns) => {
      const { bytes, isTruncated } = encode(plan, { limitBytes, bufsize: hasEdns ? 1232 : undefined });
      expect(bytes.length).toBeLessThanOrEqual(limitBytes);
      const decoded = packet.decode(Buffer.from(bytes));
      expect(decoded.flag_tc).toBe(isTruncated);
      const [kept, keptAuthority, additional] = (["answer", "authority", "additional"] as const).map((section) =>
        sectionLines(bytes, section),
      );
      const all = plan.answers.map(lineOf);
      expect(all).toEqual(expect.arrayContaining(kept ?? []));
      expect(additional).toEqual(gluedLines(plan.glue).slice(0, additional?.length));
      expect(isTruncated).toBe((kept?.length ?? 0) < all.length || (keptAuthority?.length ?? 0) < plan.authority.length);
      if (isTruncated) expect(additional).toEqual([]);
      const fits = plan.answers.some(
        (record) => !encode({ answers: [record] }, { limitBytes, bufsize: hasEdns ? 1232 : undefined }).isTruncated,
      );
      if (fits && !plan.answers.some(({ type }) => type === "CNAME")) expect(kept?.length).toBeGreaterThan(0);
      expect((decoded.additionals ?? []).some((record) => record.type === "OPT")).toBe(hasEdns);
    }),
  );
});

test("nothing follows an alias that has no room: its name would be nowhere", () => {
  const long = (letter: string) => [...Array.from({ length: 3 }, () => letter.repeat(63)), letter.repeat(50), "waymark"].join(".");
  const [name, target] = [long("a"), long("b")];
  const answers: DnsRecord[] = [
    { type: "CNAME", name, ttlSeconds: 1, data: { target } },
    { type: "A", name: target, ttlSeconds: 1, data: { address: Uint8Array.of(10, 0, 0, 1) } },
  ];
  expect(encode({ answers }, { name, limitBytes: 530 }).isTruncated).toBe(true);
  const { bytes, isTruncated } = encode({ answers }, { name, limitBytes: 512 });
  expect([isTruncated, sectionLines(bytes, "answer")]).toEqual([true, []]);
});

test("question and OPT record are whole also beyond the limit, at any place of the buffer that responses share", () => {
  const name = ["a".repeat(63), "b".repeat(63), "c".repeat(63), "d".repeat(40), "waymark"].join(".");
  const query = new DnsQuery();
  query.read(queryBytes({ name, type: "A", bufsize: 1232 }));
  const writer = new ResponseWriter(() => 0);
  const prepared = prepare({ rcode: RCODE.NOERROR, isAuthoritative: true, groups: [], authority: [], glue: new Map() }, name);
  const sizes = new Set<number>();
  for (let i = 0; i < 1000; i++) sizes.add(writer.write(query, prepared, { ...FACTS, limitBytes: 100, answerLimit: undefined }).length);
  expect([...sizes]).toEqual([query.questionEnd + 11]);
});

test("many long names over TCP are cut at 65,535 bytes and the rest is still a message", () => {
  const answers = Array.from(
    { length: 2_000 },
    (_, i): DnsRecord => ({
      type: "SRV",
      name: "web.market.waymark",
      ttlSeconds: 1,
      data: { priority: 0, weight: 0, port: i, target: `host-${i}.${"long-label-".repeat(4)}.example.com` },
    }),
  );
  const { bytes, isTruncated } = encode({ answers });
  expect(isTruncated).toBe(true);
  expect(bytes.length).toBeLessThanOrEqual(65_535);
  expect(sectionLines(bytes, "answer").length).toBeGreaterThan(700);
});

test("addresses of hosts beyond the reach of a pointer have their whole name", () => {
  const hosts = Array.from({ length: 300 }, (_, i) => `host-${i}.${"long-label-".repeat(4)}.example.com`);
  const answers = hosts.map(
    (target, port): DnsRecord => ({
      type: "SRV",
      name: "web.market.waymark",
      ttlSeconds: 1,
      data: { priority: 0, weight: 0, port, target },
    }),
  );
  const glue = new Map(
    hosts.map((name, i) => [name, [{ type: "A", name, ttlSeconds: 1, data: { address: Uint8Array.of(10, 0, i >> 8, i) } } as const]]),
  );
  const { bytes, isTruncated } = encode({ answers, glue });
  expect(isTruncated).toBe(false);
  expect(sectionLines(bytes, "additional")).toEqual(gluedLines(glue));
});

test("a repeated owner takes two bytes", () => {
  const record: DnsRecord = { type: "A", name: "web.market.waymark", ttlSeconds: 1, data: { address: Uint8Array.of(1, 2, 3, 4) } };
  const one = encode({ answers: [record] }).bytes.length;
  expect(encode({ answers: [record, record] }).bytes.length - one).toBe(16);
});

test.each<{ why: string; record: DnsRecord; head: string }>([
  {
    why: "RFC 2782",
    record: { type: "SRV", name: ASKED, ttlSeconds: 0, data: { priority: 1, weight: 2, port: 3, target: ASKED } },
    head: "0001 0002 0003",
  },
  {
    why: "RFC 9460, 2.2",
    record: { type: "SVCB", name: ASKED, ttlSeconds: 0, data: { ...PLAIN, priority: 0, target: ASKED } },
    head: "0000",
  },
  {
    why: "RFC 9460, 2.2",
    record: { type: "HTTPS", name: ASKED, ttlSeconds: 0, data: { ...PLAIN, priority: 0, target: ASKED } },
    head: "0000",
  },
])("a target of $record.type has its whole name, also where that was asked for ($why)", ({ record, head }) => {
  const name = ASKED.split(".").map((label) => `${String.fromCharCode(label.length)}${label}`);
  const data = Buffer.concat([hex(head), Buffer.from(`${name.join("")}\0`)]);
  expect(
    Buffer.from(encode({ answers: [record] }).bytes)
      .toString("hex")
      .endsWith(`00${data.length.toString(16)}${data.toString("hex")}`),
  ).toBe(true);
});
