import packet from "dns-packet";
import fc from "fast-check";
import { expect, test } from "vitest";
import { type Answer, RCODE } from "../../../src/dns/plan/answer.ts";
import type { DnsRecord } from "../../../src/dns/records/record.ts";
import { decodeQuery, ResponseEncoder, responseLimitBytes } from "../../../src/dns/wire/wire.ts";
import { checkAnyBytes, mutatedQuery } from "../../fakes/dns-fuzz.ts";
import { queryBytes, sectionLines } from "../../fakes/dns-text.ts";
import { runs } from "../../fakes/effort.ts";

const NO_ANSWER: Answer = { rcode: RCODE.NOERROR, isAuthoritative: true, answers: [], authority: [], additional: [] };

function hex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ""), "hex"));
}

/** `A a.` asked plainly, with what follows it. */
function message({ flags = "0100", counts = "0001 0000 0000 0000", question = "01 61 00 0001 0001", rest = "" } = {}): Uint8Array {
  return hex(`abcd ${flags} ${counts} ${question} ${rest}`);
}

const OPT = "00 0029 1000 00 00 0000 0000";

test.each([
  { why: "eleven bytes", bytes: hex("abcd01000001000000000000").subarray(0, 11), want: "dropped" },
  { why: "nothing", bytes: new Uint8Array(), want: "dropped" },
  { why: "a response", bytes: message({ flags: "8180" }), want: "dropped" },
  { why: "a malformed response", bytes: message({ flags: "8000", question: "ff" }), want: "dropped" },
  { why: "opcode STATUS", bytes: message({ flags: "1000" }), want: RCODE.NOTIMP },
  {
    why: "opcode UPDATE without a question",
    bytes: message({ flags: "2800", counts: "0000 0000 0000 0000", question: "" }),
    want: RCODE.NOTIMP,
  },
  { why: "no question", bytes: message({ counts: "0000 0000 0000 0000", question: "" }), want: RCODE.FORMERR },
  {
    why: "two questions",
    bytes: message({ counts: "0002 0000 0000 0000", question: "01 61 00 0001 0001 01 61 00 0001 0001" }),
    want: RCODE.FORMERR,
  },
  { why: "an answer", bytes: message({ counts: "0001 0001 0000 0000", rest: "00 0001 0001 00000000 0004 01020304" }), want: RCODE.FORMERR },
  { why: "a header alone", bytes: message({ question: "" }), want: RCODE.FORMERR },
  { why: "half a name", bytes: message({ question: "05 6161" }), want: RCODE.FORMERR },
  { why: "a name without an end", bytes: message({ question: "01 61" }), want: RCODE.FORMERR },
  { why: "a name without type", bytes: message({ question: "01 61 00 00" }), want: RCODE.FORMERR },
  { why: "a pointer as the question's name", bytes: message({ question: "c00c 0001 0001" }), want: RCODE.FORMERR },
  { why: "a label of type 01", bytes: message({ question: "41 61 00 0001 0001" }), want: RCODE.FORMERR },
  { why: "a name of 256 octets", bytes: message({ question: `${`3f${"61".repeat(63)}`.repeat(4)} 00 0001 0001` }), want: RCODE.FORMERR },
  { why: "bytes after the end", bytes: message({ rest: "00" }), want: RCODE.FORMERR },
  { why: "65,535 additional records that are not there", bytes: message({ counts: "0001 0000 0000 ffff" }), want: RCODE.FORMERR },
  { why: "two OPT", bytes: message({ counts: "0001 0000 0000 0002", rest: OPT + OPT }), want: RCODE.FORMERR },
  { why: "OPT not at the root", bytes: message({ counts: "0001 0000 0000 0001", rest: `01 61 ${OPT}` }), want: RCODE.FORMERR },
  { why: "OPT in the authority section", bytes: message({ counts: "0001 0000 0001 0000", rest: OPT }), want: RCODE.FORMERR },
  {
    why: "OPT with half an option",
    bytes: message({ counts: "0001 0000 0000 0001", rest: "00 0029 1000 00 00 0000 0003 000a 00" }),
    want: RCODE.FORMERR,
  },
  {
    why: "OPT with an option too long",
    bytes: message({ counts: "0001 0000 0000 0001", rest: "00 0029 1000 00 00 0000 0004 000a 0001" }),
    want: RCODE.FORMERR,
  },
  {
    why: "OPT longer than the message",
    bytes: message({ counts: "0001 0000 0000 0001", rest: "00 0029 1000 00 00 0000 0008" }),
    want: RCODE.FORMERR,
  },
  { why: "a question for OPT", bytes: message({ question: "00 0029 0001" }), want: RCODE.FORMERR },
  { why: "EDNS version 1", bytes: message({ counts: "0001 0000 0000 0001", rest: "00 0029 1000 00 01 0000 0000" }), want: RCODE.BADVERS },
  { why: "a plain query", bytes: message(), want: "query" },
  {
    why: "the longest name",
    bytes: message({ question: `${`3f${"61".repeat(63)}`.repeat(3)} 3d${"61".repeat(61)} 00 0001 0001` }),
    want: "query",
  },
  {
    why: "OPT with options we do not know",
    bytes: message({ counts: "0001 0000 0000 0001", rest: "00 0029 1000 00 00 8000 0006 fde9 0002 0102" }),
    want: "query",
  },
  {
    why: "another record beside OPT",
    bytes: message({ counts: "0001 0000 0000 0002", rest: `c00c 0001 0001 00000000 0000 ${OPT}` }),
    want: "query",
  },
])("$why is $want", ({ bytes, want }) => {
  const decoded = decodeQuery(bytes);
  expect(decoded.kind === "refused" ? decoded.rcode : decoded.kind).toBe(want);
  if (decoded.kind !== "dropped") expect(decoded.header.id).toBe(0xabcd);
});

test("a dot or an odd byte inside a label is no border and no letter", () => {
  const decoded = decodeQuery(message({ question: "03 61 2e 42 02 ff 5f 00 0001 0001" }));
  expect(decoded).toMatchObject({ kind: "query", question: { name: "a\\046b.\\255_", type: 1, class: 1 } });
});

test("a query reads as dns-packet wrote it", () => {
  const label = fc.stringMatching(/^[a-z0-9_-]{1,20}$/);
  const query = fc.record({
    labels: fc.array(label, { minLength: 1, maxLength: 8 }),
    type: fc.constantFrom("A", "AAAA", "SRV", "TXT", "SOA", "NS", "CNAME", "MX"),
    bufsize: fc.option(fc.integer({ min: 0, max: 65_535 }), { nil: undefined }),
    id: fc.nat(65_535),
    rd: fc.boolean(),
  });
  fc.assert(
    fc.property(query, ({ labels, type, bufsize, id, rd }) => {
      const name = labels.join(".");
      const decoded = decodeQuery(queryBytes({ name, type, bufsize, id, rd }));
      expect(decoded).toMatchObject({ kind: "query", header: { id, opcode: 0, isRecursionDesired: rd }, question: { name, class: 1 } });
      // dns-packet writes 4096 where it is told 0.
      if (decoded.kind === "query") expect(decoded.edns?.udpSizeBytes).toBe(bufsize === 0 ? 4096 : bufsize);
    }),
  );
});

test.each([
  { transport: "udp" as const, udpSizeBytes: undefined, want: 512 },
  { transport: "udp" as const, udpSizeBytes: 0, want: 512 },
  { transport: "udp" as const, udpSizeBytes: 900, want: 900 },
  { transport: "udp" as const, udpSizeBytes: 4096, want: 1232 },
  { transport: "tcp" as const, udpSizeBytes: 512, want: 65_535 },
])("an answer over $transport to EDNS size $udpSizeBytes has at most $want bytes", ({ transport, udpSizeBytes, want }) => {
  expect(responseLimitBytes(transport, udpSizeBytes === undefined ? undefined : { udpSizeBytes, version: 0 })).toBe(want);
});

function encode(
  answer: Partial<Answer>,
  { name = "web.market.waymark", limitBytes = 65_535, bufsize = undefined as number | undefined } = {},
) {
  const decoded = decodeQuery(queryBytes({ name, type: "A", bufsize }));
  if (decoded.kind !== "query") throw new Error("not a query");
  const { header, question, questionBytes, edns } = decoded;
  return new ResponseEncoder().encode({ header, question, questionBytes, edns, answer: { ...NO_ANSWER, ...answer }, limitBytes });
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
    fc.property(RECORD_LIST, RECORD_LIST, RECORD_LIST, (answers, authority, additional) => {
      const { bytes, isTruncated } = encode({ answers, authority, additional });
      expect(isTruncated).toBe(false);
      expect(sectionLines(bytes, "answer")).toEqual(answers.map(lineOf));
      expect(sectionLines(bytes, "authority")).toEqual(authority.map(lineOf));
      expect(sectionLines(bytes, "additional")).toEqual(additional.map(lineOf));
    }),
  );
});

test("a response never exceeds its limit, keeps the first answers, and says TC exactly when an answer or authority is missing", () => {
  fc.assert(
    fc.property(
      RECORD_LIST,
      RECORD_LIST,
      RECORD_LIST,
      fc.integer({ min: 512, max: 1232 }),
      fc.boolean(),
      (answers, authority, additional, limitBytes, hasEdns) => {
        const { bytes, isTruncated } = encode({ answers, authority, additional }, { limitBytes, bufsize: hasEdns ? 1232 : undefined });
        expect(bytes.length).toBeLessThanOrEqual(limitBytes);
        const decoded = packet.decode(Buffer.from(bytes));
        expect(decoded.flag_tc).toBe(isTruncated);
        const [kept, keptAuthority, keptAdditional] = [
          sectionLines(bytes, "answer"),
          sectionLines(bytes, "authority"),
          sectionLines(bytes, "additional"),
        ];
        expect(kept).toEqual(answers.map(lineOf).slice(0, kept.length));
        expect(keptAdditional).toEqual(additional.map(lineOf).slice(0, keptAdditional.length));
        expect(isTruncated).toBe(kept.length < answers.length || keptAuthority.length < authority.length);
        if (isTruncated) expect(keptAdditional).toEqual([]);
        expect((decoded.additionals ?? []).some((record) => record.type === "OPT")).toBe(hasEdns);
      },
    ),
  );
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

test("a repeated owner takes two bytes", () => {
  const record: DnsRecord = { type: "A", name: "web.market.waymark", ttlSeconds: 1, data: { address: Uint8Array.of(1, 2, 3, 4) } };
  const one = encode({ answers: [record] }).bytes.length;
  expect(encode({ answers: [record, record] }).bytes.length - one).toBe(16);
});

test("a question with odd bytes comes back as it was, and its zone is still compressed into", () => {
  const question = "04 41 2e 42 ff 07 77 41 79 6d 61 72 6b 00 0001 0001";
  const decoded = decodeQuery(message({ question }));
  if (decoded.kind !== "query") throw new Error("not a query");
  expect(decoded.question.name).toBe("a\\046b\\255.waymark");
  const authority: DnsRecord[] = [{ type: "NS", name: "waymark", ttlSeconds: 1, data: { target: "n1.waymark" } }];
  const { bytes } = new ResponseEncoder().encode({ ...decoded, answer: { ...NO_ANSWER, authority }, limitBytes: 512 });
  const text = Buffer.from(bytes).toString("hex");
  expect(text).toContain(Buffer.from(hex(question)).toString("hex"));
  // Owner: a pointer to offset 17, where the label `wAymark` of the question begins.
  expect(text).toContain("c011000200010000000100 05026e31c011".replaceAll(" ", ""));
});

test("BADVERS says so in the OPT record", () => {
  const decoded = decodeQuery(message({ counts: "0001 0000 0000 0001", rest: "00 0029 1000 00 01 0000 0000" }));
  if (decoded.kind !== "refused") throw new Error("not refused");
  const { bytes } = new ResponseEncoder().encode({
    header: decoded.header,
    question: undefined,
    questionBytes: new Uint8Array(),
    edns: decoded.edns,
    answer: { ...NO_ANSWER, rcode: decoded.rcode, isAuthoritative: false },
    limitBytes: 512,
  });
  expect(Buffer.from(bytes).toString("hex")).toBe("abcd8100000000000000000100002904d0010000000000");
});

test("any bytes are decoded without a throw, and what is answered can be read", () => {
  fc.assert(fc.property(fc.oneof(mutatedQuery(), fc.uint8Array({ maxLength: 600 })), checkAnyBytes), { numRuns: runs(2_000) });
});
