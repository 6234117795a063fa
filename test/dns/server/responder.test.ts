import packet from "dns-packet";
import fc from "fast-check";
import { expect, test } from "vitest";
import { HEALTH } from "../../../src/catalog/record/record.ts";
import { DnsResponder } from "../../../src/dns/server/responder.ts";
import type { DnsCatalog } from "../../../src/dns/subject/subject.ts";
import { onlyView } from "../../../src/dns/views/query-client.ts";
import { WaymarkError } from "../../../src/lib/errors.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { entryView, FakeDnsCatalog, TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import { queryBytes, responseText, sectionLines } from "../../fakes/dns-text.ts";
import { SETTINGS } from "../../fakes/options.ts";
import { questionBytes } from "../asking.ts";

function newResponder(maxNegativePlans?: number): DnsResponder {
  const rng = new Rng("responder");
  return new DnsResponder({
    settings: TEST_DNS_SETTINGS,
    planBytes: SETTINGS.dns.planBytes,
    random: () => rng.next(),
    serialOf: () => 1,
    maxNegativePlans,
  });
}

function addresses(responder: DnsResponder, catalog: DnsCatalog, name = "web.market.waymark"): string[] {
  const reply = responder.respond(queryBytes({ name, type: "A" }), "udp", () => onlyView(catalog));
  return sectionLines(reply?.bytes ?? new Uint8Array(12), "answer").map((line) => line.split(" ").at(-1) ?? "");
}

/** Counts look-ups. */
class CountingCatalog extends FakeDnsCatalog {
  lookupCount = 0;

  override find(...args: Parameters<FakeDnsCatalog["find"]>): ReturnType<FakeDnsCatalog["find"]> {
    this.lookupCount++;
    return super.find(...args);
  }
}

/** Hides a namespace, and tells for which answers. */
class HidingCatalog extends CountingCatalog {
  readonly #namespace: string;
  readonly #told: string[][];
  #hidden = new Set<string>();

  constructor(namespace: string, told: string[][], entries: ConstructorParameters<typeof FakeDnsCatalog>[0] = []) {
    super(entries);
    this.#namespace = namespace;
    this.#told = told;
  }

  override find(...args: Parameters<FakeDnsCatalog["find"]>): ReturnType<FakeDnsCatalog["find"]> {
    const found = super.find(...args);
    if (args[1] !== this.#namespace) return found;
    this.#hidden.add(this.#namespace);
    return [];
  }

  override takeHidden(): readonly string[] {
    const taken = [...this.#hidden];
    this.#hidden = new Set();
    return taken;
  }

  override onHidden(namespaces: readonly string[]): void {
    this.#told.push([...namespaces]);
  }
}

test("a change in the catalog shows in the next answer, also where it denied before", () => {
  const responder = newResponder();
  const catalog = new FakeDnsCatalog();
  expect(addresses(responder, catalog)).toEqual([]);
  catalog.add(entryView({ name: "web", targets: [{ host: "10.0.0.1" }] }));
  expect(addresses(responder, catalog)).toEqual(["10.0.0.1"]);
  catalog.clear();
  expect(addresses(responder, catalog)).toEqual([]);
});

test("while nothing changes the catalog is asked once, and answers are still shuffled", () => {
  const responder = newResponder();
  const catalog = new CountingCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }, { host: "10.0.0.2" }] })]);
  const firsts = new Set(Array.from({ length: 50 }, () => addresses(responder, catalog)[0]));
  expect(firsts.size).toBe(2);
  expect(catalog.lookupCount).toBe(1);
});

test("two views share no answer", () => {
  const responder = newResponder();
  const one = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }] })]);
  const two = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.2" }] })]);
  expect(addresses(responder, one)).toEqual(["10.0.0.1"]);
  expect(addresses(responder, two)).toEqual(["10.0.0.2"]);
});

test("random names that do not exist make room for each other, within a bound, and never take that of a name that does", () => {
  const bound = 20;
  const responder = newResponder(bound);
  const catalog = new CountingCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }] })]);
  addresses(responder, catalog);
  for (let i = 0; i < 10 * bound; i++) addresses(responder, catalog, `x${i}.market.waymark`);
  expect(responder.plans.droppedCount).toBe(9 * bound);
  const again = () => {
    for (let i = 9 * bound; i < 10 * bound; i++) addresses(responder, catalog, `x${i}.market.waymark`);
  };
  // While all places are taken, a name gets one when it is asked for a second time.
  again();
  const before = catalog.lookupCount;
  addresses(responder, catalog);
  again();
  expect(catalog.lookupCount).toBe(before);
  expect(responder.plans.droppedCount).toBe(10 * bound);
});

test("while random names take all places, an alias of what is drained still shows it once it is back", () => {
  const responder = newResponder(20);
  const drained = entryView({
    name: "web",
    instanceId: "1",
    targets: [{ host: "10.0.0.1" }],
    aliases: ["pay"],
    health: HEALTH.MAINTENANCE,
  });
  const catalog = new FakeDnsCatalog([drained]);
  for (let i = 0; i < 40; i++) addresses(responder, catalog, `x${i}.market.waymark`);
  expect(addresses(responder, catalog, "pay.waymark")).toEqual(["web.market.waymark."]);
  expect(addresses(responder, catalog, "pay.waymark")).toEqual(["web.market.waymark."]);
  catalog.add(entryView({ name: "web", instanceId: "2", targets: [{ host: "10.0.0.2" }] }));
  expect(addresses(responder, catalog, "pay.waymark")).toEqual(["web.market.waymark.", "10.0.0.2"]);
});

test("whatever names are denied one after the other, each answer has the whole SOA record of its zone", () => {
  // Mostly short, so that names of one length come again, also of the other zone.
  const label = fc.oneof(fc.stringMatching(/^[a-z]$/), fc.stringMatching(/^[a-z0-9_-]{1,30}$/));
  const below = (zone: string) => fc.array(label, { maxLength: 2 }).map((labels) => [...labels, zone].join("."));
  const settings = {
    ...TEST_DNS_SETTINGS,
    zones: ["waymark", "corp.example"],
    reverseZones: ["10.in-addr.arpa"],
    allowExternalNames: true,
  };
  const zoneOf = (name: string) =>
    [...settings.zones, ...settings.reverseZones].find((zone) => name === zone || name.endsWith(`.${zone}`)) ?? "waymark";
  // An outside name with a service is denied with the SOA of the first zone, in which it does not lie.
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }] })]);
  const names = fc.array(fc.oneof(...[...settings.zones, ...settings.reverseZones].map(below), fc.constant("web.market")), {
    minLength: 1,
    maxLength: 20,
  });
  fc.assert(
    fc.property(names, (asked) => {
      const rng = new Rng("denied");
      const responder = new DnsResponder({ settings, planBytes: SETTINGS.dns.planBytes, random: () => rng.next(), serialOf: () => 1 });
      for (const name of asked) {
        const reply = responder.respond(queryBytes({ name, type: "NAPTR" }), "udp", () => onlyView(catalog));
        const { authorities = [], questions = [] } = packet.decode(Buffer.from(reply?.bytes ?? []));
        expect(questions[0]?.name).toBe(name);
        const zone = zoneOf(name);
        // The hosts of a reverse zone are named in the first zone.
        const data = { rname: `hostmaster.${settings.reverseZones.includes(zone) ? "waymark" : zone}`, minimum: 5 };
        expect(authorities).toMatchObject([{ type: "SOA", name: zone, data }]);
      }
    }),
  );
});

test("a denial from what may be old says so, and none that others get after it, nor the other way round", () => {
  const settings = { ...TEST_DNS_SETTINGS, staleTtlMs: TEST_DNS_SETTINGS.negativeTtlMs };
  const responder = new DnsResponder({ settings, planBytes: SETTINGS.dns.planBytes, random: () => 0.5, serialOf: () => 1 });
  const fresh = new FakeDnsCatalog();
  const old = Object.assign(new FakeDnsCatalog([], { index: 1 }), { takeLeftMs: () => 0 });
  const isOld = (catalog: DnsCatalog, name: string) => {
    const query = queryBytes({ name: `${name}.waymark`, type: "A", bufsize: 1232 });
    const { bytes = [] } = responder.respond(query, "udp", () => onlyView(catalog)) ?? {};
    return Buffer.from(bytes).includes(Buffer.of(0, 15, 0, 2, 0, 3));
  };
  expect([isOld(fresh, "aa"), isOld(old, "bb"), isOld(fresh, "cc"), isOld(old, "dd")]).toEqual([false, true, false, true]);
});

test("names of addresses, which anybody can make up, take no room of answers from the catalog", () => {
  const responder = newResponder(20);
  const catalog = new CountingCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }] })]);
  addresses(responder, catalog);
  for (let i = 0; i < 200; i++) expect(addresses(responder, catalog, `10-0-${i}-7.addr.node.waymark`)).toEqual([`10.0.${i}.7`]);
  expect(responder.plans.droppedCount).toBe(180);
});

test("a hot name that does not exist is not pushed out by random names either", () => {
  const responder = newResponder(20);
  const catalog = new CountingCatalog([]);
  addresses(responder, catalog, "gone.market.waymark");
  const made = responder.plans.madeCount;
  for (let i = 0; i < 200; i++) addresses(responder, catalog, i % 10 === 0 ? "gone.market.waymark" : `x${i}.market.waymark`);
  expect(responder.plans.madeCount - made).toBe(180);
});

test("types that somebody makes up cost one plan for all of them, and each answer repeats its own", () => {
  const responder = newResponder();
  const catalog = new CountingCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }], aliases: ["pay.market"] })]);
  const madeUp = [0, 15, 44, 99, 256, 257, 65_281, 65_535];
  for (const name of ["web.market", "_svc._tcp.web.market", "pay.market", "gone.market"]) {
    const answer = (type: number) => {
      const asked = questionBytes(type, `${name}.waymark`);
      const bytes = Uint8Array.from(responder.respond(asked, "udp", () => onlyView(catalog))?.bytes ?? []);
      expect(bytes.subarray(12, asked.length)).toEqual(asked.subarray(12));
      return [bytes.subarray(2, 12), bytes.subarray(asked.length)];
    };
    const first = answer(1000);
    const before = catalog.lookupCount;
    for (const type of madeUp) expect(answer(type)).toEqual(first);
    expect(catalog.lookupCount).toBe(before);
  }
});

test.each([
  { why: "a fault", error: new Error("the index is broken"), text: "SERVFAIL", hasFault: true },
  { why: "a refusal by limit", error: new WaymarkError("discovery_rate_limited", "slow down"), text: "REFUSED", hasFault: false },
  { why: "a node that is not ready", error: new WaymarkError("not_ready", "later"), text: "SERVFAIL", hasFault: false },
  { why: "a denied peer", error: new WaymarkError("discovery_access_denied", "not you"), text: "REFUSED", hasFault: false },
])("$why is $text, and the next query is answered", ({ error, text, hasFault }) => {
  const responder = newResponder();
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }] })]);
  const query = queryBytes({ name: "web.market.waymark", type: "A", bufsize: 1232 });
  const reply = responder.respond(query, "udp", () => {
    throw error;
  });
  expect(responseText(reply?.bytes ?? new Uint8Array(12))).toBe(text);
  expect(reply?.fault).toBe(hasFault ? error : undefined);
  expect(addresses(responder, catalog)).toEqual(["10.0.0.1"]);
});

test.each([
  { type: "A", name: "web.market.waymark", qtype: "A", rcode: "NOERROR" },
  { type: "ANY", name: "web.market.waymark", qtype: "ANY", rcode: "NOERROR" },
  { type: "HINFO", name: "web.market.waymark", qtype: "other", rcode: "NOERROR" },
  { type: "NAPTR", name: "nope.waymark", qtype: "other", rcode: "NXDOMAIN" },
  { type: "TXT", name: "example.com", qtype: "TXT", rcode: "REFUSED" },
])("$type of $name is counted as $qtype, $rcode", ({ type, name, qtype, rcode }) => {
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }] })]);
  expect(newResponder().respond(queryBytes({ type, name }), "udp", () => onlyView(catalog))).toMatchObject({ qtype, rcode });
});

test("a malformed message is counted without a type", () => {
  const bytes = queryBytes({ type: "A", name: "web.market.waymark" }).subarray(0, 20);
  expect(newResponder().respond(bytes, "tcp", () => onlyView(new FakeDnsCatalog()))).toMatchObject({ qtype: "other", rcode: "FORMERR" });
});

test("what an answer was made without is told once an answer, also of answers that are kept", () => {
  const responder = newResponder();
  const told: string[][] = [];
  const catalog = new HidingCatalog("market", told);
  addresses(responder, catalog);
  const planned = catalog.lookupCount;
  addresses(responder, catalog);
  expect(catalog.lookupCount).toBe(planned);
  expect(told).toEqual([["market"], ["market"]]);
  addresses(responder, catalog, "web.open.waymark");
  expect(told).toHaveLength(2);
});

test("what an answer about an alias was made without is told too, whether the name behind it was asked for before or not", () => {
  const targets = ["10.0.0.1", "db.secret.waymark"].map((host) => ({ host, port: 443, protocol: "https" }));
  const entries = [entryView({ name: "web", aliases: ["shop.market", "store.market"], targets })];
  for (const names of [
    ["web", "shop", "store"],
    ["shop", "web", "store"],
  ]) {
    const told: string[][] = [];
    const responder = newResponder();
    const catalog = new HidingCatalog("secret", told, entries);
    for (const name of names) {
      const reply = responder.respond(queryBytes({ name: `${name}.market.waymark`, type: "HTTPS" }), "tcp", () => onlyView(catalog));
      expect(sectionLines(reply?.bytes ?? new Uint8Array(12), "answer").length).toBeGreaterThan(1);
    }
    expect(told).toEqual([["secret"], ["secret"], ["secret"]]);
  }
});

test("an asker without a view is refused, and the next one is answered", () => {
  const responder = newResponder();
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }] })]);
  const reply = responder.respond(queryBytes({ name: "web.market.waymark", type: "A" }), "udp", () => ({ isRefused: true }) as const);
  expect(responseText(reply?.bytes ?? new Uint8Array(12))).toBe("REFUSED");
  expect(addresses(responder, catalog)).toEqual(["10.0.0.1"]);
});

test("SOA tells the serial of its view at this moment, and a negative answer to a client subnet is to be kept by nobody", () => {
  let serial = 100;
  const settings = { settings: TEST_DNS_SETTINGS, planBytes: SETTINGS.dns.planBytes, random: () => 0.5 };
  const responder = new DnsResponder({ ...settings, serialOf: (viewIndex) => serial + viewIndex });
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }] })]);
  const soaOf = (name: string, isBySubnet: boolean) => {
    const reply = responder.respond(queryBytes({ name, type: "SOA" }), "tcp", () => ({ ...onlyView(catalog), isBySubnet }));
    const [text = ""] = (["answer", "authority"] as const).flatMap((section) => sectionLines(reply?.bytes ?? new Uint8Array(12), section));
    const words = text.split(" ");
    return { ttl: words[1], serial: words.at(-5), minimum: words.at(-1) };
  };
  const kept = soaOf("nope.waymark", false);
  expect(kept).toMatchObject({ serial: "100", minimum: "5" });
  expect(kept.ttl).not.toBe("0");
  // From the same plan.
  serial = 200;
  expect(soaOf("nope.waymark", true)).toEqual({ ttl: "0", serial: "200", minimum: "0" });
  expect(soaOf("nope.waymark", false)).toEqual({ ...kept, serial: "200" });
  expect(soaOf("waymark", true)).toEqual({ ...soaOf("waymark", false), serial: "200" });
});
