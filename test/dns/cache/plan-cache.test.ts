import { expect, test } from "vitest";
import type { EntryView } from "../../../src/catalog/entry/view.ts";
import type { DnsResponder } from "../../../src/dns/server/responder.ts";
import { onlyView } from "../../../src/dns/views/query-client.ts";
import { Rng } from "../../../src/lib/rng.ts";
import { ALIASES, aliasNames, CountingCatalog, crowd } from "../../fakes/crowded-dns.ts";
import { entryView, FakeDnsCatalog } from "../../fakes/dns-catalog.ts";
import { sized } from "../../fakes/effort.ts";
import { type AskedType, ask as askOf, newResponder, questionBytes, type Told, wordOf } from "../asking.ts";

/** A responder that keeps so much of what it planned. */
function keeping(planBytes: number): DnsResponder {
  const rng = new Rng("plans");
  return newResponder({ random: () => rng.next(), planBytes });
}

function ask(responder: DnsResponder, catalog: FakeDnsCatalog, name: string, type: AskedType = "A"): Told {
  return askOf(responder, catalog, type, `${name}.waymark`);
}

/** How many records the answer says that it has: its bytes 6 and 7. */
function countOf(responder: DnsResponder, catalog: FakeDnsCatalog, name: string, type: AskedType): number {
  const { bytes } = responder.respond(questionBytes(type, `${name}.waymark`), "tcp", () => onlyView(catalog)) ?? {
    bytes: new Uint8Array(12),
  };
  return new DataView(bytes.buffer, bytes.byteOffset).getUint16(6);
}

test.each([
  { type: "A", count: 300, names: 0, name: (i: number) => `x${i}.al` },
  { type: "SRV", count: 150, names: 150, name: (i: number) => `_svc._tcp.web${i}.market` },
  { type: "TXT", count: 300, names: 0, name: (i: number) => `x${i}.al` },
  { type: "A", count: 1000, names: 0, name: (i: number) => `${"\\001".repeat(40)}${i}` },
] as const)(
  "however many names are asked, what is kept of $type stays within its bytes, and every answer is whole",
  ({ type, count, names, name }) => {
    const maxBytes = 1024 * 1024;
    const responder = keeping(maxBytes);
    const named = Array.from({ length: names }, (_, i) => crowd(`web${i}`, []));
    const catalog = new CountingCatalog([...crowd(), ...named.flat()]);
    const counts = new Set<number>();
    for (let i = 0; i < count; i++) {
      counts.add(countOf(responder, catalog, name(i), type));
      expect(responder.plans.sizeBytes).toBeLessThanOrEqual(maxBytes);
    }
    expect(counts.size).toBe(1);
    expect(responder.plans.sizeBytes).toBeGreaterThan(maxBytes / 2);
  },
);

test("what made room for others is counted and planned again, what is kept is not; a change empties it", () => {
  const responder = keeping(512 * 1024);
  const catalog = new CountingCatalog(crowd());
  for (const name of aliasNames) ask(responder, catalog, name);
  expect(responder.plans.droppedCount).toBeGreaterThan(100);
  const looked = catalog.lookupCount;
  ask(responder, catalog, "x299.al");
  expect(catalog.lookupCount).toBe(looked);
  ask(responder, catalog, "x0.al");
  expect(catalog.lookupCount).toBeGreaterThan(looked);
  catalog.clear();
  expect(ask(responder, catalog, "x0.al").answers).toEqual([]);
  // One plan, with the facts that it rests on.
  expect(responder.plans.sizeBytes).toBeLessThan(4096);
});

test("a sample of a crowded name is used for sixteen answers in all, whichever of its names is asked", () => {
  const responder = keeping(32 * 1024 * 1024);
  const samples = crowd();
  const catalog = new CountingCatalog([], samples);
  const used = new Map<string, number>();
  for (let i = 0; i < 800; i++) {
    const [address = ""] = wordOf(ask(responder, catalog, i % 3 === 0 ? "web.market" : `x${i % ALIASES}.al`).answers, -1).slice(-1);
    used.set(address, (used.get(address) ?? 0) + 1);
  }
  expect(new Set(used.values())).toEqual(new Set([16]));
  expect(used.size).toBe(50);
});

test("of a plan too large to be kept a part is, which fills the largest answer; each record has its turn", () => {
  const maxBytes = 4 * 1024 * 1024;
  const tags = Array.from({ length: 60 }, (_, k) => `tag-${k}`.padEnd(120, "x"));
  const wide = (i: number) => entryView({ name: "web", instanceId: `i${i}`, nodeId: `n${i}`, tags });
  const catalog = new CountingCatalog(Array.from({ length: 80 }, (_, i) => wide(i)));
  const responder = keeping(maxBytes);
  const seen = new Set<string>();
  // Each turn is a part for 256 answers.
  const turns = sized(70, 16);
  for (let i = 0; i < 256 * turns; i++) {
    // In between it is cut to what goes into a datagram, for the test's own sake.
    if (i % 256 !== 0) {
      responder.respond(questionBytes("TXT", "web.market.waymark"), "udp", () => onlyView(catalog));
      continue;
    }
    const { answers, isTruncated } = ask(responder, catalog, "web.market", "TXT");
    expect(isTruncated).toBe(true);
    for (const record of answers) seen.add(record.slice(-80));
  }
  expect(responder.plans.sizeBytes).toBeLessThan(maxBytes / 8);
  expect(catalog.lookupCount).toBe(turns);
  expect(seen.size).toBeGreaterThanOrEqual(sized(80, 60));
});

test("a plan counts its records, their texts and those of its glue", () => {
  const bytesOf = (entry: EntryView, name: string, type: AskedType) => {
    const responder = keeping(32 * 1024 * 1024);
    ask(responder, new CountingCatalog([entry]), name, type);
    return responder.plans.sizeBytes;
  };
  const aliases = ["x.al"];
  const tagged = (name: string, length: number) => bytesOf(entryView({ name: "web", aliases, tags: ["x".repeat(length)] }), name, "TXT");
  expect(tagged("web.market", 100) - tagged("web.market", 20)).toBe(80);
  // The name that an alias leads to keeps its records for other aliases. What is prepared for the alias has them once more.
  expect(tagged("x.al", 100) - tagged("x.al", 20)).toBe(160);
  const targeted = (host: string) =>
    bytesOf(entryView({ name: "web", targets: [{ host, port: 80, protocol: "tcp" }] }), "_svc._tcp.web.market", "SRV");
  // The name of an address has its record beside it, a name outside of our zones has none.
  expect(targeted("10.0.0.1") - targeted("10-0-0-1.addr.node.example")).toBeGreaterThanOrEqual(14);
});

test.each([1, 2, 3])("100,000 questions for names of %i entries have room within the bytes of the default", (entries) => {
  const names = 100;
  const catalog = new CountingCatalog(
    Array.from({ length: names * entries }, (_, i) => {
      const [n, k] = [Math.floor(i / entries), i % entries];
      return entryView({ name: `service-${50_000 + n}`, instanceId: `i-${k}`, targets: [{ host: `10.100.${100 + n}.${k}`, port: 8080 }] });
    }),
  );
  const responder = newResponder();
  for (let n = 0; n < names; n++) {
    ask(responder, catalog, `service-${50_000 + n}.market`, "A");
    ask(responder, catalog, `_svc._tcp.service-${50_000 + n}.market`, "SRV");
  }
  expect(responder.plans.madeCount).toBe(2 * names);
  expect(responder.plans.sizeBytes / (2 * names)).toBeLessThanOrEqual(640);
});

test("the records of a name are planned anew for its aliases, and once for all of them, however the name is asked in between", () => {
  const responder = keeping(32 * 1024 * 1024);
  const catalog = new CountingCatalog(crowd());
  const whole = ask(responder, catalog, "web.market").answers;
  for (const name of aliasNames) {
    expect(ask(responder, catalog, name).answers.toSorted()).toEqual(
      [...whole, `${name}.waymark. 30 CNAME web.market.waymark.`].toSorted(),
    );
    ask(responder, catalog, "web.market");
  }
  // Twice the name, once for each alias.
  expect(responder.plans.madeCount).toBe(2 + ALIASES);
});

test("a part of very many small records is kept, in an eighth of the bytes", () => {
  const maxBytes = 8 * 1024 * 1024;
  const entries = Array.from({ length: 4000 }, (_, i) =>
    entryView({ name: "web", instanceId: `i${i}`, nodeId: `n${i}`, targets: [{ host: `10.0.${i >> 8}.${i & 255}` }] }),
  );
  const responder = keeping(maxBytes);
  ask(responder, new CountingCatalog(entries), "web.market");
  expect(responder.plans.droppedCount).toBe(0);
  expect(responder.plans.sizeBytes).toBeLessThanOrEqual(maxBytes / 8);
  expect(responder.plans.sizeBytes).toBeGreaterThan(maxBytes / 9);
});

test("plans for an alias that several services have are counted, those for one that a single service has are not", () => {
  const catalog = new FakeDnsCatalog([
    entryView({ name: "web", aliases: ["shop.example", "own.example"], targets: [{ host: "10.0.0.1" }] }),
    entryView({ name: "web", instanceId: "i2", aliases: ["own.example"] }),
    entryView({ name: "api", aliases: ["shop.example"], targets: [{ host: "10.0.0.2" }] }),
  ]);
  const responder = newResponder();
  const counts = ["own.example", "shop.example", "shop.example", "web.market"].map((name) => {
    ask(responder, catalog, name);
    return responder.plans.contestedCount;
  });
  expect(counts).toEqual([0, 1, 1, 1]);
});

test("plans that find no room leave nothing behind, however many there are", () => {
  const responder = keeping(4096);
  const tags = Array.from({ length: 4 }, (_, i) => `${i}`.padEnd(128, "x"));
  const catalog = new FakeDnsCatalog(Array.from({ length: 100 }, (_, i) => entryView({ name: `web${i}`, tags })));
  for (let i = 0; i < 100; i++) expect(ask(responder, catalog, `web${i}.market`, "TXT").rcode).toBe("NOERROR");
  expect([responder.plans.droppedCount, responder.plans.sizeBytes]).toEqual([100, 0]);
});
