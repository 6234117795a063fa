/** A node that stood still exports nothing before it knows what the others said meanwhile. */
import { expect, test } from "vitest";
import { SCOPE } from "../../src/catalog/entry/scope.ts";
import { KIND } from "../../src/catalog/record/record.ts";
import { some } from "../fakes/effort.ts";
import { Regions, SUMMARY } from "./regions/world.ts";
import type { SimNode } from "./sim-node.ts";

const NAMES = ["s0", "s1", "s2", "s3"];
const THAW_MS = 23_000;

/** The exporter of the beacon stands still while something that it is about to say becomes old. */
function stoodStill(forMs: number, run: (regions: Regions, frozen: () => SimNode) => void): Regions {
  const regions = new Regions("standstill", { eu: { eu1: 3 }, us: { us1: 1 } });
  const eu = regions.nodesOf("eu");
  let frozen = eu[0];
  const others = () => eu.filter((node) => node !== frozen);
  const node = () => {
    if (frozen === undefined) throw new Error("there is nobody");
    return frozen;
  };
  regions.start();
  const freezeMs = THAW_MS - forMs;
  regions.at(freezeMs - 4000, () => {
    const exporter = eu[0]?.process?.rooms.regions?.builder.exporterOf("\0beacon");
    frozen = eu.find(({ name }) => name === exporter);
    for (const name of NAMES) regions.put(others()[0]?.name ?? "", name);
  });
  // Within the hold-down.
  regions.at(freezeMs - 3000, () => {
    for (const name of NAMES) regions.put(others()[0]?.name ?? "", name, "2");
  });
  regions.at(freezeMs - 500, () => {
    for (const name of NAMES) regions.put(others()[0]?.name ?? "", name, "1", { health: 3 });
  });
  regions.at(freezeMs, () => node().freeze());
  regions.at(freezeMs + 500, () => {
    for (const name of NAMES) for (const id of ["1", "2"]) regions.end(others()[0]?.name ?? "", name, id);
  });
  regions.at(THAW_MS, () => node().thaw());
  run(regions, node);
  return regions;
}

test.each([1500, 3000])("after a standstill of %d ms it is no exporter until its peers have told it all since then", (forMs) => {
  const regions = stoodStill(forMs, (world, frozen) => {
    const isExporting = () => frozen().process?.rooms.regions?.isExporting === true;
    world.look(THAW_MS - forMs - 1, () => (isExporting() ? [] : ["it does not export before"]));
    world.look(THAW_MS, () => (isExporting() ? ["it is an exporter at once"] : []));
    world.look(THAW_MS + 6000, () => (isExporting() ? [] : ["it does not export again"]));
  });
  expect(regions.run(THAW_MS + 8000)).toEqual([]);
  const said = regions.exports.filter(({ atMs }) => atMs >= THAW_MS);
  expect(said.filter(({ isWithdrawn }) => !isWithdrawn)).toEqual([]);
  expect([...(regions.shown("us1-a") ?? [])]).toEqual([]);
});

test("a loop that was busy for a moment goes on exporting", () => {
  const regions = stoodStill(400, (world, frozen) => {
    world.look(THAW_MS, () => (frozen().process?.rooms.regions?.isExporting === true ? [] : ["it exports nothing"]));
  });
  expect(regions.run(THAW_MS + 8000)).toEqual([]);
});

test("a loop that is busy again and again tells its members nothing, and counts nothing again", () => {
  const regions = new Regions("busy", { eu: { eu1: 2 }, us: { us1: 1 } });
  const [busy, other] = [regions.node("eu1-a"), regions.node("eu1-b")];
  const incarnation = () => other.process?.fabric.membership.find(busy.name)?.incarnation;
  const remembered = () => {
    const builder = busy.process?.rooms.regions?.builder;
    const parts = { source: "eu1", kind: KIND.SERVICE, namespace: "svc", channel: SCOPE.GLOBAL } as const;
    return NAMES.filter((serviceId) => builder?.saidMonoMs({ ...parts, serviceId }) !== undefined).length;
  };
  regions.start();
  regions.at(6000, () => {
    for (const name of NAMES) regions.put("eu1-b", name);
  });
  let before = { incarnation: incarnation(), remembered: 0 };
  regions.at(14_000, () => {
    before = { incarnation: incarnation(), remembered: remembered() };
  });
  for (let n = 1; n <= 10; n++) {
    regions.at(14_000 + 1000 * n, () => busy.freeze());
    regions.at(14_400 + 1000 * n, () => busy.thaw());
    regions.look(14_401 + 1000 * n, () => (remembered() === before.remembered ? [] : ["it forgot what it sent"]));
  }
  expect(regions.run(27_000)).toEqual([]);
  expect(before.remembered).toBeGreaterThan(0);
  expect(incarnation()).toBe(before.incarnation);
});

test("a beacon that waited while its reader stood still makes no source fresh", () => {
  const regions = new Regions("held-up", { eu: { eu1: 1 }, us: { us1: 1 } });
  const [eu, us] = [regions.node("eu1-a"), regions.node("us1-a")];
  regions.start();
  regions.at(8000, () => regions.put("eu1-a", "web"));
  const freezeMs = 12_000;
  regions.at(freezeMs, () => us.freeze());
  // Longer than the time between two beacons, so that the last of them waits at the reader.
  regions.at(freezeMs + SUMMARY.ttlMs / 2, () => eu.crash({ isSilent: true, isBatchKept: true, isDiskLost: false }));
  const thawMs = freezeMs + SUMMARY.ttlMs / 2 + SUMMARY.ttlMs + 2000;
  regions.at(thawMs, () => us.thaw());
  regions.watch(thawMs + 1000, thawMs + 5000, () => regions.differs([us], ["eu1 svc/web stale"]));
  expect(regions.run(thawMs + 5500)).toEqual([]);
});

/** The settings of the product. */
const DEFAULTS = { ttlMs: 120_000, staleKeepMs: 600_000, holdDownMs: 5000, exportIntervalMs: 30_000, pruneIntervalMs: 30_000 };

test.each(
  some([
    { forMs: 780_000, where: "us1-a", links: "still" },
    { forMs: 150_000, where: "us1-a", links: "back" },
    { forMs: 150_000, where: "us1-a", links: "still" },
    { forMs: 780_000, where: "us1-a", links: "back" },
    { forMs: 150_000, where: "hub1-a", links: "back" },
    { forMs: 780_000, where: "hub1-a", links: "back" },
  ]),
)("$where stood still for $forMs ms: all regions are equal and fresh 5 s after the links are $links there", ({ forMs, where, links }) => {
  const areNeighbours = (a: string, b: string) => a === "hub" || b === "hub";
  // With these times the others open their links while it stands still, so it hears of them as soon as it wakes.
  const regions = new Regions("probe", { eu: { eu1: 1 }, hub: { hub1: 1 }, us: { us1: 1 } }, { areNeighbours, summary: DEFAULTS });
  const nodes = [...regions.nodes.values()];
  const frozen = regions.node(where);
  const others = nodes.filter((node) => node !== frozen);
  regions.start();
  regions.at(8000, () => {
    for (const { name } of nodes) regions.put(name, `web-${name}`);
  });
  const freezeMs = 40_000;
  const thawMs = freezeMs + forMs;
  regions.at(freezeMs, () => frozen.freeze());
  // The others end their links, because nothing answers, and open new ones later.
  const areCut = links === "back";
  regions.at(freezeMs + 1000, () => regions.cut([frozen], others, areCut));
  regions.at(thawMs - 5000, () => regions.cut([frozen], others, false));
  regions.at(thawMs, () => frozen.thaw());
  let backMs = Number.POSITIVE_INFINITY;
  const all = ["eu1 svc/web-eu1-a", "hub1 svc/web-hub1-a", "us1 svc/web-us1-a"];
  regions.watch(thawMs + 100, thawMs + 20_000, () => {
    const { nowMs } = regions.world;
    if (regions.linkCount === 2) backMs = Math.min(backMs, nowMs);
    return nowMs >= backMs + 5000 ? regions.differs(nodes, all) : [];
  });
  expect(regions.run(thawMs + 20_000)).toEqual([]);
  expect(backMs).toBeLessThan(thawMs + 10_000);
});
