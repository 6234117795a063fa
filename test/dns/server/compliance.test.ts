/**
 * What EDNS wants of a server, written from the RFCs as ISC's genreport asks it, and messages that no honest client sends: each over UDP, TCP and TLS.
 */
import packet from "dns-packet";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { RCODE } from "../../../src/dns/plan/answer.ts";
import { DnsResponder } from "../../../src/dns/server/responder.ts";
import { onlyView } from "../../../src/dns/views/query-client.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import { checkAnyBytes, mutatedQuery } from "../../fakes/dns-fuzz.ts";
import { queryBytes, responseText } from "../../fakes/dns-text.ts";
import { runs } from "../../fakes/effort.ts";
import { SETTINGS } from "../../fakes/options.ts";

const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }] })]);
const responder = new DnsResponder({
  settings: TEST_DNS_SETTINGS,
  planBytes: SETTINGS.dns.planBytes,
  random: () => 0.5,
  serialOf: () => 1,
});
type Transport = Parameters<DnsResponder["respond"]>[1];
const TRANSPORTS: readonly Transport[] = ["udp", "tcp", "dot", "doh"];

/** What a response's OPT record says, with the data of its options by their codes, in hex. */
function optOf(response: Buffer) {
  const found = (packet.decode(response).additionals ?? []).find((record) => record.type === "OPT");
  if (found === undefined) return undefined;
  const { extendedRcode, ednsVersion: version, udpPayloadSize: size, flags } = found;
  // From the end of the message, where the record is: dns-packet reads some options its own way.
  const options: Record<number, string> = {};
  const start = response.lastIndexOf(Buffer.from("00002904d0", "hex")) + 11;
  for (let at = start; at + 4 <= response.length; at += 4 + response.readUInt16BE(at + 2))
    options[response.readUInt16BE(at)] = response.subarray(at + 4, at + 4 + response.readUInt16BE(at + 2)).toString("hex");
  return { extendedRcode, version, size, flags, options };
}

function respond(bytes: Uint8Array, transport: Transport): Buffer | undefined {
  const reply = responder.respond(bytes, transport, () => onlyView(catalog));
  return reply && Buffer.from(reply.bytes);
}

function hex(text: string): Uint8Array {
  return Uint8Array.from(Buffer.from(text.replaceAll(/\s/g, ""), "hex"));
}

/** `A a.` asked plainly, with what follows it. The name lies in no zone of ours, so a good query is REFUSED. */
function message({ flags = "0100", counts = "0001 0000 0000 0000", question = "01 61 00 0001 0001", rest = "" } = {}): Uint8Array {
  return hex(`abcd ${flags} ${counts} ${question} ${rest}`);
}

/** With the upper bits of the OPT record, which is last if there is one. */
function rcodeOf(response: Buffer): number {
  const opt = optOf(response);
  return (response.readUInt8(3) & 15) | ((opt?.extendedRcode ?? 0) << 4);
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
  {
    why: "a name of 256 octets",
    bytes: message({ question: `${`3f${"61".repeat(63)}`.repeat(3)} 3e${"61".repeat(62)} 00 0001 0001` }),
    want: RCODE.FORMERR,
  },
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
  { why: "a plain query", bytes: message(), want: RCODE.REFUSED },
  {
    why: "the longest name",
    bytes: message({ question: `${`3f${"61".repeat(63)}`.repeat(3)} 3d${"61".repeat(61)} 00 0001 0001` }),
    want: RCODE.REFUSED,
  },
  {
    why: "OPT with options we do not know",
    bytes: message({ counts: "0001 0000 0000 0001", rest: "00 0029 1000 00 00 8000 0006 fde9 0002 0102" }),
    want: RCODE.REFUSED,
  },
  {
    why: "another record beside OPT",
    bytes: message({ counts: "0001 0000 0000 0002", rest: `c00c 0001 0001 00000000 0000 ${OPT}` }),
    want: RCODE.REFUSED,
  },
])("$why is $want", ({ bytes, want }) => {
  for (const transport of TRANSPORTS) {
    const response = respond(bytes, transport);
    if (want === "dropped") expect(response).toBeUndefined();
    else expect(response && rcodeOf(response)).toBe(want);
    if (response !== undefined) expect(response.readUInt16BE(0)).toBe(0xabcd);
  }
});

test("an odd byte inside a label is no border and no letter: it comes back as it was, and its zone is still compressed into", () => {
  const question = "04 41 2e 42 ff 07 77 41 79 6d 61 72 6b 00 0001 0001";
  const response = respond(message({ question }), "udp");
  expect(response && rcodeOf(response)).toBe(RCODE.NXDOMAIN);
  const text = response?.toString("hex");
  expect(text).toContain(Buffer.from(hex(question)).toString("hex"));
  // The SOA's owner: a pointer to offset 17, where the label `wAymark` of the question begins.
  expect(text).toContain("c01100060001");
});

/** `A web.market.waymark` with an OPT record. */
function edns({ version = "00", flags = "0000", options = "", size = "1000" } = {}): Uint8Array {
  const data = hex(options);
  const question = "03 776562 06 6d61726b6574 07 7761796d61726b 00 0001 0001";
  const length = data.length.toString(16).padStart(4, "0");
  return message({ counts: "0001 0000 0000 0001", question, rest: `00 0029 ${size} 00 ${version} ${flags} ${length} ${options}` });
}

const CLIENT_COOKIE = "0102030405060708";
const SUBNET = (family: string, source: string, scope: string, address: string) => {
  const data = `${family}${source}${scope}${address}`;
  return `0008 ${(data.length / 2).toString(16).padStart(4, "0")} ${data}`;
};

describe.each(TRANSPORTS)("EDNS over %s", (transport) => {
  const ask = (bytes: Uint8Array) => {
    const response = respond(bytes, transport);
    if (response === undefined) throw new Error("no response");
    return { rcode: rcodeOf(response), opt: optOf(response), text: responseText(response) };
  };

  test.each([
    {
      why: "a plain query has no OPT record in its response",
      bytes: queryBytes({ name: "web.market.waymark", type: "A" }),
      opt: undefined,
    },
    {
      why: "an OPT record is answered by one of version 0, with our size",
      bytes: edns(),
      opt: { version: 0, size: 1232, flags: 0, options: {} },
    },
    { why: "a size below 512 counts as 512", bytes: edns({ size: "0000" }), opt: { version: 0, size: 1232, flags: 0, options: {} } },
    { why: "DO comes back (RFC 3225)", bytes: edns({ flags: "8000" }), opt: { flags: 0x8000, options: {} } },
    { why: "flags that are not known do not come back", bytes: edns({ flags: "40ff" }), opt: { flags: 0, options: {} } },
    { why: "an option that is not known is ignored", bytes: edns({ options: "fde9 0002 0102" }), opt: { options: {} } },
    { why: "NSID is ignored", bytes: edns({ options: "0003 0000" }), opt: { options: {} } },
    { why: "version 1 is BADVERS with version 0", bytes: edns({ version: "01" }), rcode: RCODE.BADVERS, opt: { version: 0, options: {} } },
    {
      why: "version 1 with an option is BADVERS without it",
      bytes: edns({ version: "01", options: "000a 0003 010203" }),
      rcode: RCODE.BADVERS,
      opt: { version: 0, options: {} },
    },
    {
      why: "a client's cookie of 7 bytes is FORMERR",
      bytes: edns({ options: "000a 0007 01020304050607" }),
      rcode: RCODE.FORMERR,
      opt: { options: {} },
    },
    {
      why: "a server's cookie of 7 bytes is FORMERR",
      bytes: edns({ options: `000a 000f ${"01".repeat(15)}` }),
      rcode: RCODE.FORMERR,
      opt: { options: {} },
    },
    {
      why: "a server's cookie of 33 bytes is FORMERR",
      bytes: edns({ options: `000a 0029 ${"01".repeat(41)}` }),
      rcode: RCODE.FORMERR,
      opt: { options: {} },
    },
    {
      why: "a subnet of IPv4 comes back with scope 0",
      bytes: edns({ options: SUBNET("0001", "18", "00", "c00002") }),
      opt: { options: { 8: "00011800c00002" } },
    },
    {
      why: "a subnet of IPv6 comes back with scope 0",
      bytes: edns({ options: SUBNET("0002", "2f", "00", "20010db80000") }),
      opt: { options: { 8: "00022f0020010db80000" } },
    },
    {
      why: "a subnet of no bits comes back",
      bytes: edns({ options: SUBNET("0001", "00", "00", "") }),
      opt: { options: { 8: "00010000" } },
    },
    {
      why: "a subnet with a scope is FORMERR",
      bytes: edns({ options: SUBNET("0001", "18", "18", "c00002") }),
      rcode: RCODE.FORMERR,
      opt: { options: {} },
    },
    {
      why: "a subnet of 33 bits is FORMERR",
      bytes: edns({ options: SUBNET("0001", "21", "00", "c000020001") }),
      rcode: RCODE.FORMERR,
      opt: { options: {} },
    },
    {
      why: "a subnet of 129 bits is FORMERR",
      bytes: edns({ options: SUBNET("0002", "81", "00", "00".repeat(17)) }),
      rcode: RCODE.FORMERR,
      opt: { options: {} },
    },
    {
      why: "a subnet with a byte too many is FORMERR",
      bytes: edns({ options: SUBNET("0001", "18", "00", "c0000200") }),
      rcode: RCODE.FORMERR,
      opt: { options: {} },
    },
    {
      why: "a subnet with a byte too few is FORMERR",
      bytes: edns({ options: SUBNET("0001", "18", "00", "c000") }),
      rcode: RCODE.FORMERR,
      opt: { options: {} },
    },
    {
      why: "a subnet with a bit after its prefix is FORMERR",
      bytes: edns({ options: SUBNET("0001", "17", "00", "c00003") }),
      rcode: RCODE.FORMERR,
      opt: { options: {} },
    },
    {
      why: "a subnet of family 3 is FORMERR",
      bytes: edns({ options: SUBNET("0003", "00", "00", "") }),
      rcode: RCODE.FORMERR,
      opt: { options: {} },
    },
    { why: "a subnet of 3 bytes is FORMERR", bytes: edns({ options: "0008 0003 000100" }), rcode: RCODE.FORMERR, opt: { options: {} } },
    {
      why: "two subnets are FORMERR",
      bytes: edns({ options: SUBNET("0001", "00", "00", "") + SUBNET("0001", "00", "00", "") }),
      rcode: RCODE.FORMERR,
      opt: {},
    },
  ])("$why", ({ bytes, rcode = RCODE.NOERROR, opt }) => {
    const answer = ask(bytes);
    expect(answer.rcode).toBe(rcode);
    expect(answer.text.includes("10.0.0.1")).toBe(rcode === RCODE.NOERROR);
    if (opt === undefined) expect(answer.opt).toBeUndefined();
    else expect(answer.opt).toMatchObject(opt);
    if (opt !== undefined && "options" in opt) expect(answer.opt?.options).toEqual(opt.options);
  });

  test.each(Array.from({ length: 16 }, (_, opcode) => opcode))(
    "opcode %i: a query is answered, all else is NOTIMP, with the opcode and an OPT record",
    (opcode) => {
      const bytes = edns();
      bytes[2] = opcode << 3;
      const response = respond(bytes, transport);
      expect(response && rcodeOf(response)).toBe(opcode === 0 ? RCODE.NOERROR : RCODE.NOTIMP);
      expect(((response?.readUInt8(2) ?? 0) >> 3) & 15).toBe(opcode);
      expect(response && optOf(response)?.version).toBe(0);
    },
  );

  test("a client's cookie is answered with the same and a server's cookie, which then is valid; a wrong one gets another", () => {
    const cookie = ask(edns({ options: `000a 0008 ${CLIENT_COOKIE}` })).opt?.options[10] ?? "";
    expect(cookie).toMatch(new RegExp(`^${CLIENT_COOKIE}01000000.{24}$`));
    const again = ask(edns({ options: `000a 0018 ${cookie}` }));
    expect([again.rcode, again.opt?.options[10]]).toEqual([RCODE.NOERROR, cookie]);
    const wrong = ask(edns({ options: `000a 0018 ${CLIENT_COOKIE}${"00".repeat(16)}` }));
    expect([wrong.rcode, wrong.opt?.options[10]]).toEqual([RCODE.NOERROR, cookie]);
    // Of two cookies the first counts.
    expect(ask(edns({ options: `000a 0008 ${CLIENT_COOKIE} 000a 0008 ${"09".repeat(8)}` })).opt?.options[10]).toBe(cookie);
    // Without a question only the cookie is looked at (RFC 7873, 5.4).
    const alone = (options: string) =>
      ask(message({ counts: "0000 0000 0000 0001", question: "", rest: `00 0029 1000 00 00 0000 ${options}` }));
    expect(alone(`000c 000a 0008 ${CLIENT_COOKIE}`)).toMatchObject({ rcode: RCODE.NOERROR, opt: { options: { 10: cookie } } });
    expect(alone(`001c 000a 0018 ${cookie}`)).toMatchObject({ rcode: RCODE.NOERROR, opt: { options: { 10: cookie } } });
    expect(alone(`001c 000a 0018 ${CLIENT_COOKIE}${"00".repeat(16)}`)).toMatchObject({
      rcode: RCODE.BADCOOKIE,
      opt: { options: { 10: cookie } },
    });
    expect(alone("0000").rcode).toBe(RCODE.FORMERR);
  });

  test("keepalive is answered over TCP and TLS, and not over HTTP (RFC 7828)", () => {
    const told = new DnsResponder({
      settings: TEST_DNS_SETTINGS,
      planBytes: 1 << 20,
      random: () => 0.5,
      serialOf: () => 1,
      idleTimeoutMs: 10_000,
    });
    const reply = told.respond(edns({ options: "000b 0000" }), transport, () => onlyView(catalog));
    expect(reply && optOf(Buffer.from(reply.bytes))?.options).toEqual(transport === "tcp" || transport === "dot" ? { 11: "0064" } : {});
  });

  test("padding is answered over TLS and HTTP alone, with zeros to a multiple of 468 bytes, and behind all other options (RFC 7830, 8467)", () => {
    for (const options of ["000c 0000", `000c 0003 010203 000a 0008 ${CLIENT_COOKIE}`]) {
      const response = respond(edns({ options }), transport);
      const padding = response && optOf(response)?.options[12];
      expect(padding === undefined).toBe(transport !== "dot" && transport !== "doh");
      if (padding === undefined) continue;
      expect(response?.length).toBe(468);
      expect(padding).toMatch(/^(00)+$/);
      expect(response?.subarray(-padding.length / 2).toString("hex")).toBe(padding);
    }
    expect(respond(edns({ options: "" }), transport)?.length).toBeLessThan(100);
  });

  test("a message that is cut at any byte is FORMERR or gets no answer", () => {
    const whole = edns({ options: `000a 0008 ${CLIENT_COOKIE} ${SUBNET("0001", "18", "00", "c00002")}` });
    for (let end = 0; end < whole.length; end++) {
      const response = respond(whole.subarray(0, end), transport);
      if (end < 12) expect(response).toBeUndefined();
      else expect(response && rcodeOf(response)).toBe(RCODE.FORMERR);
    }
  });
});

test("a padded answer that is full has no more bytes than a message may have, and says that it is cut", () => {
  for (const count of [3990, 4070, 4096]) {
    const targets = Array.from({ length: count }, (_, i) => ({ host: `10.0.${i >> 8}.${i & 255}` }));
    const full = new FakeDnsCatalog([entryView({ name: "web", targets })]);
    const query = edns({ options: "000c 0000" });
    const reply = responder.respond(query, "dot", () => onlyView(full));
    const bytes = Buffer.from(reply?.bytes ?? []);
    expect(bytes.length % 468 === 0 || bytes.length === 65_535).toBe(true);
    expect([reply?.isTruncated, packet.decode(bytes).answers?.length === count]).toEqual(count < 4094 ? [false, true] : [true, false]);
    // What was left in the buffer by a longer answer is not padding.
    expect(optOf(respond(query, "dot") ?? bytes)?.options[12]).toMatch(/^(00)+$/);
  }
});

test("any bytes are answered without a throw, and what is answered can be read", () => {
  fc.assert(fc.property(fc.oneof(mutatedQuery(), fc.uint8Array({ maxLength: 600 })), checkAnyBytes), { numRuns: runs(2_000) });
});
