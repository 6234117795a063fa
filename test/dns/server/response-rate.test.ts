import { describe, expect, test } from "vitest";
import { DnsResponder } from "../../../src/dns/server/responder.ts";
import { prefixOf, ResponseRates } from "../../../src/dns/server/response-rate.ts";
import { PendingNameError } from "../../../src/dns/subject/remote-lookup.ts";
import { onlyView } from "../../../src/dns/views/query-client.ts";
import { sharedBuckets, shareLimits } from "../../../src/policy/limits/shared-limits.ts";
import { BUCKET_FORMS, HASH_KEY } from "../../fakes/bucket-forms.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import { SETTINGS } from "../../fakes/options.ts";
import { questionBytes } from "../asking.ts";

test.each([
  { address: "192.0.2.7", prefix: "192.0.2" },
  { address: "::ffff:192.0.2.7", prefix: "192.0.2" },
  { address: "2001:db8:1:2345::1", prefix: "2001:db8:1:23" },
  { address: "2001:db8:1:23ff:1:2:3:4", prefix: "2001:db8:1:23" },
  { address: "2001:db8:1:45::1", prefix: "2001:db8:1:00" },
  { address: "2001:db8::1", prefix: "2001:db8:0:00" },
  { address: "fe80::1%eth0", prefix: "fe80:0:0:00" },
  { address: "::1", prefix: "0:0:0:00" },
])("$address is of network $prefix", ({ address, prefix }) => {
  expect(prefixOf(address)).toBe(prefix);
});

describe.each(BUCKET_FORMS)("buckets $form", ({ makeBuckets, mostKept }) => {
  test("a network has its answers of a second at once and then as they come back, whichever of its addresses asks", () => {
    const rate = new ResponseRates({ perSecond: 4, maxNetworks: 100, makeBuckets });
    const taken = (monoMs: number) =>
      Array.from({ length: 10 }, (_, i) => rate.judge(`192.0.2.${i}`, "", monoMs)).filter((verdict) => verdict === "whole").length;
    expect([taken(1000), taken(1000), taken(1500), taken(60_000)]).toEqual([4, 0, 2, 4]);
    expect(rate.judge("192.0.3.1", "", 60_000)).toBe("whole");
  });

  test("after a pause of this process the queries that waited are within the rate: the pause counts as time in which they came", () => {
    const pauseMs = (monoMs: number) => (monoMs >= 10_000 && monoMs < 10_500 ? 2000 : 0);
    const rate = new ResponseRates({ perSecond: 4, maxNetworks: 100, makeBuckets, pauseMs });
    const taken = (network: number, monoMs: number) =>
      Array.from({ length: 40 }, () => rate.judge(`192.0.${network}.1`, "", monoMs)).filter((verdict) => verdict === "whole").length;
    // A bucket that was empty when the pause began has what came back meanwhile.
    expect(taken(1, 8000)).toBe(4);
    expect([taken(1, 10_000), taken(1, 10_250), taken(1, 11_250)]).toEqual([8, 1, 4]);
    expect([taken(2, 10_000), taken(2, 10_250), taken(2, 11_250)]).toEqual([12, 1, 4]);
    expect(taken(3, 60_000)).toBe(4);
  });

  test("a crowd of forged addresses takes no more memory than was set", () => {
    const rate = new ResponseRates({ perSecond: 1, maxNetworks: 64, makeBuckets });
    for (let i = 0; i < 100_000; i++) rate.judge(`10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`, "", 0);
    for (let i = 0; i < 10_000; i++) rate.judge(`10.${i >> 8}.${i & 255}.1`, "", 0);
    expect(rate.size).toBeLessThanOrEqual(mostKept(64));
  });
});

test("an answer that another thread gave counts here too", () => {
  const shared = shareLimits(HASH_KEY, (make) => new ResponseRates({ perSecond: 4, maxNetworks: 64, makeBuckets: make }));
  const rateOf = (originMs: number) => {
    const threads = sharedBuckets(structuredClone(shared), originMs);
    return new ResponseRates({ perSecond: 4, maxNetworks: 64, makeBuckets: threads });
  };
  const [there, here] = [rateOf(0), rateOf(5000)];
  for (let i = 0; i < 3; i++) there.judge("192.0.2.1", "", 6000);
  expect([here.judge("192.0.2.2", "", 1000), here.judge("192.0.2.3", "", 1000)]).toEqual(["whole", "cut"]);
});

test("absent names of one zone use up nothing of another zone's, of what exists, or of what only lacks the type", () => {
  const rates = new ResponseRates({ perSecond: 2, maxNetworks: 100 });
  const settings = { ...TEST_DNS_SETTINGS, zones: ["waymark", "corp"] };
  const responder = new DnsResponder({ settings, planBytes: SETTINGS.dns.planBytes, random: () => 0.5, serialOf: () => 1, rates });
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }] })]);
  const sender = { address: "192.0.2.1", monoMs: 0, room: "all" } as const;
  const ask = (name: string, type: "A" | "AAAA" = "A") =>
    responder.respond(questionBytes(type, name), "udp", () => onlyView(catalog), sender)?.rate;
  expect(["a", "b", "c"].map((name) => ask(`${name}.waymark`))).toEqual(["whole", "whole", "cut"]);
  expect([ask("a.corp"), ask("web.market.waymark"), ask("web.market.waymark", "AAAA")]).toEqual(["whole", "whole", "whole"]);
});

test("errors are one class, whatever they are", () => {
  const rates = new ResponseRates({ perSecond: 2, maxNetworks: 100 });
  const responder = new DnsResponder({
    settings: TEST_DNS_SETTINGS,
    planBytes: SETTINGS.dns.planBytes,
    random: () => 0.5,
    serialOf: () => 1,
    rates,
  });
  const broken = () => {
    throw new Error("broken");
  };
  const ask = (name: string, select: () => ReturnType<typeof onlyView>) => {
    const reply = responder.respond(questionBytes("A", name), "udp", select, { address: "192.0.2.1", monoMs: 0, room: "all" });
    return [reply?.rcode, reply?.rate];
  };
  const catalog = new FakeDnsCatalog();
  expect([
    ask("web.waymark", broken),
    ask("example.com", () => onlyView(catalog)),
    ask("web.waymark", broken),
    ask("example.com", () => onlyView(catalog)),
  ]).toEqual([
    ["SERVFAIL", "whole"],
    ["REFUSED", "whole"],
    ["SERVFAIL", "cut"],
    ["REFUSED", "dropped"],
  ]);
});

test("answers of more than three times their question share one budget of all networks; beyond it they say to ask over TCP", () => {
  const trusted = [{ bytes: Uint8Array.of(203, 0, 113, 0), prefixBits: 24 }];
  const rates = new ResponseRates({ perSecond: 1, maxNetworks: 1000, trusted });
  const responder = new DnsResponder({
    settings: TEST_DNS_SETTINGS,
    planBytes: SETTINGS.dns.planBytes,
    random: () => 0.5,
    serialOf: () => 1,
    rates,
  });
  // Questions of 40 bytes: five addresses of 16 bytes make three times as many.
  const entryOf = (name: string, count: number) =>
    entryView({ name, targets: Array.from({ length: count }, (_, i) => ({ host: `10.0.0.${i}` })) });
  const catalog = new FakeDnsCatalog([entryOf("webfive", 5), entryOf("websix6", 6)]);
  const ask = (name: string, address: string, { monoMs = 0, transport = "udp" }: { monoMs?: number; transport?: "tcp" | "udp" } = {}) => {
    const question = questionBytes("A", `${name}.market.waymark`);
    const reply = responder.respond(question, transport, () => onlyView(catalog), { address, monoMs, room: "all" });
    return reply && { rate: reply.rate, factor: reply.bytes.length / question.length, isTruncated: reply.isTruncated };
  };
  const five = Array.from({ length: 100 }, (_, i) => ask("webfive", `198.51.${i}.1`));
  expect(five.every((reply) => reply?.rate === "whole" && reply.factor === 3)).toBe(true);
  const six = Array.from({ length: 60 }, (_, i) => ask("websix6", `192.0.${i}.1`));
  expect(six.slice(0, 50).every((reply) => reply?.rate === "whole" && reply.factor > 3)).toBe(true);
  for (const reply of six.slice(50)) expect(reply).toEqual({ rate: "cut", factor: 1, isTruncated: true });
  const whole = { rate: "whole", isTruncated: false };
  expect(ask("websix6", "203.0.113.1")).toMatchObject(whole);
  expect(ask("websix6", "192.0.200.1", { transport: "tcp" })).toMatchObject(whole);
  expect(ask("websix6", "192.0.201.1", { monoMs: 1000 })).toMatchObject(whole);
});

test("a question that waited for what was fetched is not counted as one that begins to wait", () => {
  const rates = new ResponseRates({ perSecond: 1, maxNetworks: 100 });
  const responder = new DnsResponder({
    settings: TEST_DNS_SETTINGS,
    planBytes: SETTINGS.dns.planBytes,
    random: () => 0.5,
    serialOf: () => 1,
    rates,
  });
  const name = new PendingNameError("k", Promise.resolve(), new Set());
  const unknown = () => {
    throw name;
  };
  const waits = (waited: PendingNameError | undefined) =>
    responder.respond(questionBytes("A", "web.waymark"), "udp", unknown, { address: "192.0.2.1", monoMs: 0, room: "all", waited })
      ?.unknown !== undefined;
  expect([waits(undefined), waits(name), waits(name), waits(undefined)]).toEqual([true, true, true, false]);
});

test("the last places to wait are for addresses that are proved, among which are trusted forwarders", () => {
  const rates = new ResponseRates({ perSecond: 9, maxNetworks: 9, trusted: [{ bytes: Uint8Array.of(192, 0, 2, 0), prefixBits: 24 }] });
  const responder = new DnsResponder({
    settings: TEST_DNS_SETTINGS,
    planBytes: SETTINGS.dns.planBytes,
    random: () => 0.5,
    serialOf: () => 1,
    rates,
  });
  const unknown = () => {
    throw new PendingNameError("k", Promise.resolve(), new Set());
  };
  const waits = (address: string, transport: "tcp" | "udp") =>
    (["all", "proved", "nobody"] as const).map(
      (room) =>
        responder.respond(questionBytes("A", "web.waymark"), transport, unknown, { address, monoMs: 0, room })?.unknown !== undefined,
    );
  expect(waits("192.0.2.1", "udp")).toEqual([true, true, false]);
  expect(waits("203.0.113.1", "udp")).toEqual([true, false, false]);
  expect(waits("203.0.113.1", "tcp")).toEqual([true, true, false]);
});
