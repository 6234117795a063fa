/** Cookies, extended errors and rates: what a responder says to whom beside records. */
import packet from "dns-packet";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { DnsResponder, type QuerySender } from "../../../src/dns/server/responder.ts";
import { ResponseRates } from "../../../src/dns/server/response-rate.ts";
import { PendingNameError } from "../../../src/dns/subject/remote-lookup.ts";
import { onlyView } from "../../../src/dns/views/query-client.ts";
import { parseCookieSecrets, ServerCookies } from "../../../src/dns/wire/cookies.ts";
import { parseBlock } from "../../../src/lib/addresses.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import { queryBytes, responseText } from "../../fakes/dns-text.ts";
import { signedQuery, TYPE } from "../../fakes/dnssec.ts";
import { runs } from "../../fakes/effort.ts";
import { SETTINGS } from "../../fakes/options.ts";

const catalog = new FakeDnsCatalog([
  entryView({ name: "web", targets: [{ host: "10.0.0.1" }] }),
  entryView({ name: "big", targets: Array.from({ length: 30 }, (_, i) => ({ host: `10.0.1.${i}` })) }),
]);
const view = onlyView(catalog);

function newResponder(options: Partial<ConstructorParameters<typeof DnsResponder>[0]> = {}): DnsResponder {
  return new DnsResponder({
    settings: TEST_DNS_SETTINGS,
    planBytes: SETTINGS.dns.planBytes,
    random: () => 0.5,
    serialOf: () => 1,
    ...options,
  });
}

const sender = (address: string, monoMs = 0): QuerySender => ({ address, monoMs, room: "all" });
const hex = (text: string) => Buffer.from(text.replaceAll(" ", ""), "hex");

/** A query with options. */
function withOptions(name: string, options: string, type = "A"): Uint8Array {
  const data = hex(options);
  const plain = packet.encode({ type: "query", id: 7, questions: [{ name, type: type as "A" }] });
  plain.writeUInt16BE(1, 10);
  const opt = Buffer.concat([hex("00 0029 04d0 00000000"), Buffer.from([data.length >> 8, data.length & 255]), data]);
  return Buffer.concat([plain, opt]);
}

/** The data of an option of a response, in hex. Its OPT record is last and begins with our size. */
function optionOf(bytes: Uint8Array, code: number): string | undefined {
  const response = Buffer.from(bytes);
  const found = response.lastIndexOf(hex("00 0029 04d0"));
  for (let at = found < 0 ? response.length : found + 11; at + 4 <= response.length; at += 4 + response.readUInt16BE(at + 2))
    if (response.readUInt16BE(at) === code) return response.subarray(at + 4, at + 4 + response.readUInt16BE(at + 2)).toString("hex");
  return undefined;
}

const SECRET = "e5e973e5a6b2a43f48e7dc849e37bfcf";

describe("cookies", () => {
  const NEXT = "445536bcd2513298075a5d379663c962";

  function cookieOf(cookie: string, { address = "198.51.100.100", atSeconds = 0x5cf79f11, secrets = SECRET } = {}): string | undefined {
    const responder = newResponder({ cookies: new ServerCookies(parseCookieSecrets(secrets) ?? []), wallMs: () => atSeconds * 1000 });
    const length = (cookie.length / 2).toString(16).padStart(4, "0");
    const reply = responder.respond(withOptions("web.market.waymark", `000a ${length} ${cookie}`), "udp", () => view, sender(address));
    return reply && optionOf(reply.bytes, 10);
  }

  test.each([
    { of: "RFC 9018, A.1", cookie: "2464c4abcf10c957", want: "2464c4abcf10c957010000005cf79f111f8130c3eee29480" },
    {
      of: "the same client later",
      cookie: "2464c4abcf10c957",
      atSeconds: 0x5cf7a871,
      want: "2464c4abcf10c957010000005cf7a871d4a564a1442aca77",
    },
    {
      of: "RFC 9018, A.3: another client, with reserved bits",
      cookie: "fc93fc62807ddb8601abcdef5cf78f71a314227b6679ebf5",
      address: "203.0.113.203",
      atSeconds: 0x5cf7a9ac,
      want: "fc93fc62807ddb86010000005cf7a9acf73a7810aca2381e",
    },
    {
      of: "an IPv4 address that a socket of IPv6 shows",
      cookie: "2464c4abcf10c957",
      address: "::ffff:198.51.100.100",
      want: "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
    },
    {
      of: "a client whose last one has reserved bits and a wrong hash",
      cookie: "2464c4abcf10c95701abcdef5cf79f110000000000000000",
      want: "2464c4abcf10c957010000005cf79f111f8130c3eee29480",
    },
  ])("the cookie of $of is that of the RFC", ({ want, cookie, ...at }) => {
    expect(cookieOf(cookie, at)).toBe(want);
  });

  const GOOD = "2464c4abcf10c957010000005cf79f111f8130c3eee29480";
  const MADE = 0x5cf79f11;
  test.each([
    { when: "at once", atSeconds: MADE, isKept: true, isValid: true },
    { when: "half an hour later, less a second", atSeconds: MADE + 1799, isKept: true, isValid: true },
    { when: "after half an hour", atSeconds: MADE + 1800, isKept: false, isValid: true },
    { when: "after an hour", atSeconds: MADE + 3600, isKept: false, isValid: true },
    { when: "after more than an hour", atSeconds: MADE + 3601, isKept: false, isValid: false },
    { when: "by a clock that is five minutes behind", atSeconds: MADE - 300, isKept: false, isValid: true },
    { when: "by a clock that is further behind", atSeconds: MADE - 301, isKept: false, isValid: false },
    { when: "from another address", atSeconds: MADE, address: "198.51.100.101", isKept: false, isValid: false },
    { when: "with another secret", atSeconds: MADE, secrets: NEXT, isKept: false, isValid: false },
    { when: "with another secret before its own", atSeconds: MADE, secrets: `${NEXT}\n${SECRET}\n`, isKept: true, isValid: true },
    { when: "of another client", atSeconds: MADE, cookie: GOOD.replace("24", "25"), isKept: false, isValid: false },
    { when: "with a changed hash", atSeconds: MADE, cookie: GOOD.replace(/80$/, "81"), isKept: false, isValid: false },
    { when: "of another version", atSeconds: MADE, cookie: GOOD.replace("c95701", "c95702"), isKept: false, isValid: false },
    { when: "with a byte more", atSeconds: MADE, cookie: `${GOOD}00`, isKept: false, isValid: false },
  ])(
    "$when a cookie is valid: $isValid, and stays: $isKept",
    ({ isKept, isValid, cookie = GOOD, address = "198.51.100.100", atSeconds, secrets = SECRET }) => {
      expect(cookieOf(cookie, { address, atSeconds, secrets }) === cookie).toBe(isKept);
      const cookies = new ServerCookies(parseCookieSecrets(secrets) ?? []);
      const rates = new ResponseRates({ perSecond: 1, maxNetworks: 10 });
      const responder = newResponder({ cookies, rates, wallMs: () => atSeconds * 1000 });
      const query = withOptions("web.market.waymark", `000a ${(cookie.length / 2).toString(16).padStart(4, "0")} ${cookie}`);
      const verdicts = Array.from({ length: 3 }, () => responder.respond(query, "udp", () => view, sender(address))?.rate);
      // Who has a valid cookie has no rate.
      expect(verdicts).toEqual(isValid ? ["whole", "whole", "whole"] : ["whole", "cut", "dropped"]);
    },
  );

  test("however the wall clock is set, a cookie counts from five minutes before its time to an hour after it, and the client is given one that counts", () => {
    const moves = fc.oneof(fc.integer({ min: -4000, max: 4000 }), fc.constantFrom(-301, -300, 0, 1799, 1800, 3600, 3601, -86_400, 86_400));
    const starts = fc.constantFrom(MADE, 2 ** 31 - 10, 2 ** 32 - 2000);
    fc.assert(
      fc.property(starts, fc.array(moves, { minLength: 1, maxLength: 12 }), (start, all) => {
        let nowSeconds = start;
        const secrets = parseCookieSecrets(SECRET) ?? [];
        const responder = newResponder({
          cookies: new ServerCookies(secrets),
          wallMs: () => nowSeconds * 1000,
          rates: new ResponseRates({ perSecond: 1, maxNetworks: 10 }),
        });
        const ask = (cookie: string) => {
          const query = withOptions("web.market.waymark", `000a ${(cookie.length / 2).toString(16).padStart(4, "0")} ${cookie}`);
          return responder.respond(query, "tcp", () => view, sender("198.51.100.100"));
        };
        let cookie = optionOf(ask("2464c4abcf10c957")?.bytes ?? new Uint8Array(), 10) ?? "";
        let madeSeconds = nowSeconds;
        for (const move of all) {
          nowSeconds += move;
          const ageSeconds = nowSeconds - madeSeconds;
          const query = withOptions("", `000a 0018 ${cookie}`).subarray();
          // Without a question, only a cookie that counts gets NOERROR (RFC 7873, 5.4).
          const alone = Buffer.concat([query.subarray(0, 4), hex("0000"), query.subarray(6, 12), query.subarray(17)]);
          const isValid = ageSeconds >= -300 && ageSeconds <= 3600;
          expect(responder.respond(alone, "udp", () => view, sender("198.51.100.100"))?.rcode).toBe(isValid ? "NOERROR" : "other");
          const next = optionOf(ask(cookie)?.bytes ?? new Uint8Array(), 10) ?? "";
          // The time of the clock, modulo 2^32, unless the old one is young.
          const isKept = isValid && ageSeconds >= 0 && ageSeconds < 1800;
          if (!isKept) madeSeconds = nowSeconds;
          expect(next === cookie).toBe(isKept || ageSeconds === 0);
          expect(Number.parseInt(next.slice(24, 32), 16)).toBe(madeSeconds % 2 ** 32);
          cookie = next;
        }
      }),
      { numRuns: runs(200) },
    );
  });

  test.each([
    { text: `${SECRET}\n`, count: 1 },
    { text: `${NEXT}\r\n${SECRET.toUpperCase()}\r\n`, count: 2 },
    { text: "", count: undefined },
    { text: SECRET.slice(1), count: undefined },
    { text: `${SECRET}0`, count: undefined },
    { text: [SECRET, NEXT, SECRET].join("\n"), count: undefined },
    { text: "not hex at all, but of 32 letters", count: undefined },
  ])("a file with $text has $count secrets", ({ text, count }) => {
    expect(parseCookieSecrets(text)?.length).toBe(count);
  });
});

describe("extended errors", () => {
  const notReady = () => {
    throw new WaymarkError("not_ready", "later");
  };
  const cutOff = Object.assign(new FakeDnsCatalog(), { find: notReady });
  const asking = Object.assign(new FakeDnsCatalog(), {
    find: () => {
      throw new PendingNameError("web", Promise.resolve(), new Set());
    },
  });
  test.each([
    { why: "a node that is not ready", select: notReady, text: "SERVFAIL", code: "000e" },
    { why: "a resolver that cannot ask", select: () => onlyView(cutOff), text: "SERVFAIL", code: "0016" },
    { why: "a resolver that still asks", select: () => onlyView(asking), text: "SERVFAIL", code: "0016" },
    { why: "an asker without a view", select: () => ({ isRefused: true }) as const, text: "REFUSED", code: "0012" },
    { why: "a name that does not exist", select: () => onlyView(new FakeDnsCatalog()), text: "NXDOMAIN aa", code: undefined },
  ])("$why is $text with $code, and without EDNS says no more", ({ select, text, code }) => {
    const responder = newResponder();
    const respond = (query: Uint8Array) => responder.respond(query, "udp", select)?.bytes ?? new Uint8Array(12);
    const plain = respond(queryBytes({ name: "web.market.waymark", type: "A" }));
    const long = respond(queryBytes({ name: "web.market.waymark", type: "A", bufsize: 1232 }));
    expect([responseText(plain).split("\n")[0], responseText(long).split("\n")[0]]).toEqual([text, text]);
    expect([optionOf(plain, 15), optionOf(long, 15)]).toEqual([undefined, code]);
  });

  test("where no place is left to wait, only those are sent to TCP whose address may be forged; others hear why", () => {
    const responder = newResponder({
      rates: new ResponseRates({ perSecond: 9, maxNetworks: 9 }),
      cookies: new ServerCookies([hex(SECRET)]),
    });
    const respond = (transport: "tcp" | "udp", options = "") => {
      const reply = responder.respond(withOptions("web.market.waymark", options), transport, () => onlyView(asking), {
        ...sender("198.51.100.100"),
        room: "nobody",
      });
      const bytes = reply?.bytes ?? new Uint8Array(12);
      return [responseText(bytes).split("\n")[0], optionOf(bytes, 15)];
    };
    expect(respond("udp")).toEqual(["NOERROR tc", undefined]);
    expect(respond("tcp")).toEqual(["SERVFAIL", "0016"]);
  });
});

describe("client subnets", () => {
  const SUBNET = "0008 0007 0001 18 00 c00002";
  test.each([
    { scopePrefix: undefined, options: SUBNET, want: "00011800c00002" },
    { scopePrefix: 20, options: SUBNET, want: "00011814c00002" },
    { scopePrefix: 20, options: "0008 0004 0001 00 00", want: "00010000" },
  ])("scope $scopePrefix of a view comes back as $want", ({ scopePrefix, options, want }) => {
    const query = withOptions("web.market.waymark", options);
    const reply = newResponder().respond(query, "udp", (subnet) => {
      expect(subnet).toEqual({
        family: 1,
        sourcePrefix: subnet?.sourcePrefix,
        address: subnet?.sourcePrefix === 0 ? new Uint8Array() : Uint8Array.of(192, 0, 2),
      });
      return { ...view, scopePrefix };
    });
    expect([reply?.fault, reply && optionOf(reply.bytes, 8)]).toEqual([undefined, want]);
  });

  test("that something is absent may not be kept where the subnet chose the view", () => {
    const query = withOptions("nope.market.waymark", SUBNET);
    const soa = (isBySubnet: boolean) =>
      responseText(newResponder().respond(query, "udp", () => ({ ...view, isBySubnet }))?.bytes ?? new Uint8Array(12)).split("\n")[1];
    expect(soa(false)).toMatch(/^authority  waymark\. 5 SOA .* 5$/);
    expect(soa(true)).toMatch(/^authority  waymark\. 0 SOA .* 0$/);
  });
});

describe("rates", () => {
  const rated = (options: Partial<ConstructorParameters<typeof ResponseRates>[0]> = {}) => {
    const responder = newResponder({ rates: new ResponseRates({ perSecond: 2, maxNetworks: 100, ...options }) });
    return (
      name: string,
      {
        address = "192.0.2.1",
        monoMs = 0,
        transport = "udp",
        type = "A",
      }: { address?: string; monoMs?: number; transport?: "tcp" | "udp"; type?: string } = {},
    ) => responder.respond(queryBytes({ name: `${name}.waymark`, type }), transport, () => view, sender(address, monoMs));
  };

  test("above the rate every second answer is TC without records, no larger than the question, and the others are not sent", () => {
    const ask = rated();
    const verdicts = Array.from({ length: 8 }, () => ask("web.market")?.rate);
    expect(verdicts).toEqual(["whole", "whole", "cut", "dropped", "cut", "dropped", "cut", "dropped"]);
    const cut = ask("web.market");
    expect(responseText(cut?.bytes ?? new Uint8Array(12))).toBe("NOERROR tc");
    expect(cut?.bytes.length).toBe(queryBytes({ name: "web.market.waymark", type: "A" }).length);
    expect(ask("web.market")?.bytes.length).toBe(0);
    // In half a second one comes back.
    expect([ask("web.market", { monoMs: 500 })?.rate, ask("web.market", { monoMs: 500 })?.rate]).toEqual(["whole", "cut"]);
  });

  test("an answer that is cut repeats DO too (RFC 3225)", () => {
    const responder = newResponder({ rates: new ResponseRates({ perSecond: 1, maxNetworks: 9 }) });
    const respond = () => ({ ...responder.respond(signedQuery("web.market.waymark", TYPE.A), "udp", () => view, sender("192.0.2.1")) });
    const replies = [respond(), respond()];
    expect(replies.map(({ rate }) => rate)).toEqual(["whole", "cut"]);
    for (const { bytes = [] } of replies) expect(Buffer.from(bytes).includes(hex("00 0029 04d0 0000 8000"))).toBe(true);
  });

  test("answers, missing types, missing names and errors are counted apart, missing names for a zone as one; other networks and TCP are not counted with them", () => {
    const ask = rated();
    const whole = (names: readonly string[], at = {}) => names.map((name) => ask(name, at)?.rate === "whole");
    expect(whole(["no1.market", "no2.market", "no3.market"])).toEqual([true, true, false]);
    expect(whole(["web.market", "web.market", "web.market"])).toEqual([true, true, false]);
    expect(whole(["web.market", "web.market", "web.market"], { type: "AAAA" })).toEqual([true, true, false]);
    expect(whole(["web.market"], { address: "192.0.2.200" })).toEqual([false]);
    expect(whole(["web.market", "no4.market"], { address: "192.0.3.1" })).toEqual([true, true]);
    expect(whole(["web.market", "no4.market"], { transport: "tcp" })).toEqual([true, true]);
  });

  test("a trusted forwarder has no rate", () => {
    const block = parseBlock("192.0.2.0/24");
    const ask = rated({ trusted: block === undefined ? [] : [block] });
    expect(Array.from({ length: 9 }, () => ask("web.market")?.rate)).not.toContain("cut");
    expect(Array.from({ length: 9 }, () => ask("web.market", { address: "192.0.3.1" })?.rate)).toContain("cut");
  });

  test("answers of more than three times their question share a budget of all senders, beyond which they are TC", () => {
    const ask = rated();
    const from = (i: number) => ask("big.market", { address: `10.0.${i}.1` });
    // Of 2 a second for each of 50 networks.
    const verdicts = Array.from({ length: 120 }, (_, i) => from(i)?.rate);
    expect(verdicts.filter((verdict) => verdict === "whole")).toHaveLength(100);
    expect(verdicts.slice(100).every((verdict) => verdict === "cut")).toBe(true);
    // Small answers go on.
    expect(ask("web.market", { address: "10.0.250.1" })?.rate).toBe("whole");
  });
});
