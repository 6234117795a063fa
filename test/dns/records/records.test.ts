import fc from "fast-check";
import { expect, test } from "vitest";
import { SCOPE } from "../../../src/catalog/entry/scope.ts";
import { HEALTH } from "../../../src/catalog/record/record.ts";
import { onlyView } from "../../../src/dns/views/asker.ts";
import { healthOrder } from "../../../src/reading/levels.ts";
import { entryView, FakeDnsCatalog } from "../../fakes/dns-catalog.ts";
import { ask, newResponder, questionBytes, wordOf } from "../asking.ts";

/** `[priority, target]` of each SRV record of `web`. */
function srvOf(catalog: FakeDnsCatalog): readonly (readonly [number, string])[] {
  const { answers } = ask(newResponder(), catalog, "SRV", "_svc._tcp.web.market.waymark");
  return answers.map((line) => [Number(line.split(" ")[3]), line.split(" ").at(-1)?.slice(0, -1) ?? ""]);
}

test("every type is found by its number, and by no other", () => {
  const codes = { A: 1, NS: 2, CNAME: 5, SOA: 6, TXT: 16, AAAA: 28, SRV: 33, ANY: 255 };
  // A question for OPT is malformed.
  for (const code of Array.from({ length: 300 }, (_, n) => n + 1).filter((n) => n !== 41)) {
    const name = Object.entries(codes).find(([, number]) => number === code)?.[0];
    const reply = newResponder().respond(questionBytes(code, "nope.waymark"), "tcp", () => onlyView(new FakeDnsCatalog()));
    expect([code, reply?.qtype]).toEqual([code, name ?? "other"]);
  }
});

test.each([
  { ttlMs: undefined, want: 5 },
  { ttlMs: 0, want: 1 },
  { ttlMs: 999, want: 1 },
  { ttlMs: 30_999, want: 30 },
  { ttlMs: 86_400_000, want: 60 },
])("an entry's ttl of $ttlMs ms is $want s in DNS", ({ ttlMs, want }) => {
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "10.0.0.1" }], ttlMs })]);
  expect(wordOf(ask(newResponder(), catalog, "A", "web.market.waymark").answers, 1)).toEqual([String(want)]);
});

/** Entries of one name with one target each. */
const SRV_WORLD = fc.array(
  fc.record({
    health: fc.constantFrom(HEALTH.HEALTHY, HEALTH.DEGRADED, HEALTH.CRITICAL, HEALTH.MAINTENANCE, HEALTH.ORPHANED),
    priority: fc.oneof(fc.nat(3), fc.integer({ min: 65_530, max: 65_535 })),
  }),
  { minLength: 1, maxLength: 12 },
);

test("a client that goes by the priorities of SRV meets the healthiest first, and among equals those that the entries prefer", () => {
  fc.assert(
    fc.property(SRV_WORLD, (world) => {
      const entries = world.map(({ health, priority }, i) =>
        entryView({
          name: "web",
          instanceId: `i${i}`,
          health,
          targets: [{ host: `h${i}.example`, port: 80, protocol: "tcp", priority, weight: 1 }],
        }),
      );
      const told = new Map(srvOf(new FakeDnsCatalog(entries)).map(([priority, target]) => [target, priority]));
      const isIn = ({ health }: { readonly health: number }) => health === HEALTH.MAINTENANCE;
      const areAllIn = world.every(isIn);
      // Nobody is sent to an entry in maintenance while there is another one.
      expect(world.flatMap((one, i) => (told.has(`h${i}.example`) || (isIn(one) && !areAllIn) ? [] : [i]))).toEqual([]);
      const placed = world.map((one, i) => ({ ...one, rank: healthOrder(one.health), told: told.get(`h${i}.example`) ?? Number.NaN }));
      const all = placed.filter((one) => areAllIn || !isIn(one));
      const best = Math.min(...all.map(({ rank }) => rank));
      for (const a of all) {
        expect(Number.isInteger(a.told) && a.told >= 0 && a.told <= 65_535).toBe(true);
        for (const b of all) expect(Math.sign(a.told - b.told)).toBe(Math.sign(a.rank - b.rank || a.priority - b.priority));
      }
      // Where all are alike, nothing is changed.
      if (all.every(({ rank }) => rank === best)) expect(all.map((one) => one.told)).toEqual(all.map(({ priority }) => priority));
    }),
  );
});

test.each([
  { healths: [HEALTH.MAINTENANCE, HEALTH.CRITICAL], want: ["10.0.0.1"] },
  { healths: [HEALTH.MAINTENANCE, HEALTH.ORPHANED], want: ["10.0.0.1"] },
  { healths: [HEALTH.MAINTENANCE, HEALTH.MAINTENANCE], want: ["10.0.0.0", "10.0.0.1"] },
])("without a healthy entry, addresses leave out those in maintenance while there are others: $healths", ({ healths, want }) => {
  const entries = healths.map((health, i) => entryView({ name: "web", instanceId: `i${i}`, health, targets: [{ host: `10.0.0.${i}` }] }));
  const { answers } = ask(newResponder(), new FakeDnsCatalog(entries), "A", "web.market.waymark");
  expect(answers.map((answer) => answer.split(" ").at(-1) ?? "").toSorted((a, b) => (a < b ? -1 : 1))).toEqual(want);
});

test("an address that a healthy and a sick entry have is told once, with the priority of the healthy one", () => {
  const targets = [{ host: "10.0.0.1", port: 80, protocol: "tcp", priority: 3, weight: 1 }];
  const entries = [HEALTH.CRITICAL, HEALTH.HEALTHY].map((health, i) => entryView({ name: "web", instanceId: `i${i}`, health, targets }));
  expect(srvOf(new FakeDnsCatalog(entries)).map(([priority]) => priority)).toEqual([3]);
});

test("texts hold every tag and capability, in strings of at most 255 bytes that each name their key", () => {
  const item = fc.stringMatching(/^[A-Za-z0-9._:/@+-]{1,128}$/);
  const items = fc.uniqueArray(item, { maxLength: 64 });
  fc.assert(
    fc.property(items, items, (tags, capabilities) => {
      const catalog = new FakeDnsCatalog([entryView({ name: "web", tags, capabilities, scope: SCOPE.GLOBAL })]);
      const [record = ""] = ask(newResponder(), catalog, "TXT", "web.market.waymark").answers;
      const strings = [...record.matchAll(/"([^"]*)"/g)].map(([, text = ""]) => text);
      const valuesOf = (key: string): string[] =>
        strings.filter((text) => text.startsWith(`${key}=`)).flatMap((text) => text.slice(key.length + 1).split(","));
      for (const text of strings) expect(text.length).toBeLessThanOrEqual(255);
      expect(valuesOf("tags")).toEqual(tags);
      expect(valuesOf("capabilities")).toEqual(capabilities);
      expect(valuesOf("scope")).toEqual(["global"]);
      expect(strings.every((text) => /^(namespace|scope|tags|cluster_id|node_id|capabilities)=/.test(text))).toBe(true);
    }),
  );
});

test("a host that DNS cannot write costs its own SRV record only", () => {
  const catalog = new FakeDnsCatalog([entryView({ name: "web", targets: [{ host: "a..b" }, { host: "10.0.0.1" }] })]);
  expect(srvOf(catalog).map(([, target]) => target)).toEqual(["10-0-0-1.addr.node.waymark"]);
});

test("the serial follows the revision and wraps", () => {
  const catalog = new FakeDnsCatalog();
  catalog.revision = 0x1_0000_0002;
  expect(ask(newResponder(), catalog, "SOA", "waymark").answers[0]?.split(" ")[5]).toBe("2");
});

test("a node whose id has no name still has a name server", () => {
  const responder = newResponder({ settings: { nodeId: "n".repeat(150) } });
  expect(wordOf(ask(responder, new FakeDnsCatalog(), "NS", "waymark").answers, -1)).toEqual(["ns.waymark."]);
});
