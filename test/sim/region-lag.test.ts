/** What a node tells of summaries that are on their way: by border, and by the clusters that it hears. */
import { expect, test } from "vitest";
import type { Time } from "../../src/lib/machine.ts";
import { Regions, SUMMARY } from "./regions/world.ts";

test("a border without a link shows for how long what is due has waited, and the source there turns stale", () => {
  const regions = new Regions("lag", { eu: { eu1: 2 }, us: { us1: 1 } });
  const lag = () => {
    const { process } = regions.node("eu1-a");
    if (process === undefined) throw new Error("eu1-a does not run");
    const { borders, sources, exports } = process.rooms.regions?.lag(process.fabric, process.time()) ?? {};
    const [border] = borders ?? [];
    return { border, source: sources?.find(({ clusterId }) => clusterId === "us1"), exports, time: process.time() };
  };
  regions.start();
  regions.at(8000, () => regions.put("us1-a", "web"));
  regions.at(9000, () => regions.put("eu1-a", "cart"));
  regions.at(52_000, () => {
    const { border, source, exports, time } = lag();
    expect(exports).toMatchObject({ isExporting: true, exporterCount: 2, lagMs: 0, failedCount: 0, detail: "exporting summaries" });
    expect(border).toMatchObject({ clusterId: "us1", region: "us", unsent: 0, lagMs: 0 });
    expect(border?.regionLinks).toBeGreaterThanOrEqual(border?.links ?? 0);
    const [a, b] = ["eu1-a", "eu1-b"].map((nodeId) => regions.node(nodeId).process?.fabric.borders.counts[0]?.links ?? 0);
    expect([border?.links, border?.regionLinks]).toEqual([a, (a ?? 0) + (b ?? 0)]);
    // Each direction is compared three times a minute, by the nodes that have a link.
    if ((border?.links ?? 0) > 0)
      for (const monoMs of [border?.exportedEqualMonoMs, border?.importedEqualMonoMs])
        expect(time.monoMs - (monoMs ?? 0)).toBeLessThan(41_000);
    expect(source).toMatchObject({ region: "us", state: "fresh", summaries: 1, isFull: false });
    expect(source?.ageMs).toBeLessThan(SUMMARY.ttlMs / 3 + 1000);
  });
  regions.at(53_000, () => regions.cutOff("us"));
  regions.at(75_000, () => regions.put("eu1-a", "pay"));
  regions.at(84_000, () => {
    const { border, source, exports } = lag();
    expect(border).toMatchObject({ links: 0, regionLinks: 0, unsent: 0 });
    expect(border?.lagMs).toBeGreaterThan(8000);
    expect(border?.lagMs).toBeLessThan(11_000);
    expect(exports?.lagMs).toBe(border?.lagMs);
    expect(exports?.detail).toContain("no border link to us1 (region us)");
    expect(source).toMatchObject({ state: "stale", summaries: 1 });
  });
  expect(regions.run(84_100)).toEqual([]);
});

test("a service that is registered after a region was cut off, and before its links are down, is due since then", () => {
  const regions = new Regions("lag-cut", { eu: { eu1: 2 }, us: { us1: 2 } });
  const lagsMs = () =>
    ["eu1-a", "eu1-b"].map((nodeId) => {
      const { process } = regions.node(nodeId);
      return (process && process.rooms.regions?.lag(process.fabric, process.time()).borders[0]?.lagMs) ?? Number.NaN;
    });
  regions.start();
  regions.at(40_000, () => expect(Math.max(...lagsMs())).toBe(0));
  regions.at(50_000, () => regions.cutOff("us"));
  regions.at(50_500, () => regions.put("eu1-a", "pay"));
  regions.at(90_000, () => {
    expect(Math.min(...lagsMs())).toBeGreaterThan(35_000);
    expect(Math.max(...lagsMs())).toBeLessThan(60_000);
  });
  regions.at(91_000, () => regions.cutOff("us", false));
  regions.at(125_000, () => expect(Math.max(...lagsMs())).toBe(0));
  expect(regions.run(125_100)).toEqual([]);
});

test("a cluster with borders and without a signing key at any node says that it exports nothing", () => {
  const regions = new Regions("keyless", { eu: { eu1: 1 }, us: { us1: 1 } }, { keyless: ["eu1-a"] });
  const exportsOf = (nodeId: string) => {
    const { process } = regions.node(nodeId);
    return process?.rooms.regions?.lag(process.fabric, process.time()).exports;
  };
  regions.start();
  regions.at(20_000, () => {
    const why = "not exporting summaries: this node has no summary.signing_key_file; not exported by any node of the cluster";
    expect(exportsOf("eu1-a")).toMatchObject({ isExporting: false, exporterCount: 0, detail: why });
    expect(exportsOf("us1-a")).toMatchObject({ isExporting: true, exporterCount: 1 });
  });
  expect(regions.run(20_100)).toEqual([]);
});

test("a border node that knows no key of its own cluster says that it passes nothing of it on", () => {
  const keyless = { keyless: ["eu1-a", "us1-b"], unaware: ["eu1-a"] };
  const regions = new Regions("unaware", { eu: { eu1: 2 }, us: { us1: 2 } }, keyless);
  const standingOf = (nodeId: string) => regions.node(nodeId).process?.rooms.regions?.standingText;
  regions.start();
  regions.at(20_000, () => {
    const nodes = ["eu1-a", "eu1-b", "us1-b"];
    const signedElsewhere = "not exporting summaries: this node has no summary.signing_key_file; exported by 1 other node of the cluster";
    expect(nodes.map(standingOf)).toEqual([
      `${signedElsewhere}; this node does not forward its own cluster's summaries to other regions: summary.keys has no key for eu1`,
      "exporting summaries",
      signedElsewhere,
    ]);
  });
  expect(regions.run(20_100)).toEqual([]);
});

test("a cluster with neither a border node nor one with the role ingress says that nobody can be led to it, as long as it exports", () => {
  const regions = new Regions("inner", { eu: { eu1: 1, eu2: 2, eu3: 1 }, us: { us1: 1 } }, { keyless: ["eu2-b", "eu3-a"] });
  for (const cluster of ["eu2", "eu3"])
    for (const { options } of regions.nodesOf(cluster)) if (options.regional !== undefined) options.regional.borders = [];
  const detailOf = (nodeId: string) => {
    const { process } = regions.node(nodeId);
    return process?.rooms.regions?.lag(process.fabric, process.time()).exports.detail;
  };
  const signedElsewhere = (by: string) => `not exporting summaries: this node has no summary.signing_key_file; ${by} of the cluster`;
  regions.start();
  regions.at(20_000, () => {
    const why = "other clusters cannot redirect clients to this cluster: no live node of this cluster has the role ingress or a border";
    expect(["eu1-a", "eu2-a", "eu2-b", "eu3-a"].map(detailOf)).toEqual([
      "exporting summaries",
      `exporting summaries; ${why}`,
      `${signedElsewhere("exported by 1 other node")}; ${why}`,
      // It has more to mend first.
      signedElsewhere("not exported by any node"),
    ]);
  });
  expect(regions.run(20_100)).toEqual([]);
});

test("a border that was never linked is shown next to a border that was", () => {
  const regions = new Regions("never-up", { eu: { eu1: 2 }, us: { us1: 1 }, ap: { ap1: 1 } });
  regions.cutOff("us");
  regions.start();
  regions.at(20_000, () => {
    for (const nodeId of ["eu1-a", "eu1-b"]) {
      const { process } = regions.node(nodeId);
      expect(process?.rooms.regions?.standingText).toBe("exporting summaries; no border link to us1 (region us)");
      expect(process?.rooms.regions?.unlinkedNeighbours().map(({ clusterId }) => clusterId)).toEqual(["us1"]);
    }
  });
  expect(regions.run(20_100)).toEqual([]);
});

test("of several regions each border counts the links with its own", () => {
  const regions = new Regions("lag3", { eu: { eu1: 1 }, us: { us1: 1 }, ap: { ap1: 1 } });
  regions.start();
  regions.at(30_000, () => {
    const { process } = regions.node("eu1-a");
    const { borders = [] } = (process && process.rooms.regions?.lag(process.fabric, process.time())) ?? {};
    expect(borders.map(({ clusterId, links, regionLinks }) => `${clusterId} ${links} ${regionLinks}`).toSorted()).toEqual([
      "ap1 1 1",
      "us1 1 1",
    ]);
  });
  expect(regions.run(30_100)).toEqual([]);
});

test("a cluster without an exporter is told of after a minute, and again when it has one, though nobody reads the metrics", () => {
  const regions = new Regions("lack", { eu: { eu1: 2 }, us: { us1: 1 } }, { keyless: ["eu1-a"] });
  const toldAt = (nodeId: string) => regions.node(nodeId).options.regional?.told;
  regions.start();
  regions.at(20_000, () => regions.node("eu1-b").crash({ isSilent: true, isBatchKept: true, isDiskLost: false }));
  // It is found dead within some seconds.
  regions.at(78_000, () => expect(toldAt("eu1-a")).toEqual([]));
  regions.at(100_000, () => {
    const standing = "not exporting summaries: this node has no summary.signing_key_file; not exported by any node of the cluster";
    expect(toldAt("eu1-a")).toEqual([{ kind: "exporters", exporterCount: 0, standing }]);
    regions.node("eu1-b").start();
  });
  regions.at(140_000, () => {
    expect(toldAt("eu1-a")).toMatchObject([{ exporterCount: 0 }, { exporterCount: 1 }]);
    expect(toldAt("us1-a")).toEqual([]);
  });
  expect(regions.run(140_100)).toEqual([]);
});

test("what a node refuses is told once at the time of the refusal, though nobody reads the metrics", () => {
  const regions = new Regions("refusing", { eu: { eu1: 1 }, us: { us1: 1 } });
  const { options } = regions.node("us1-a");
  regions.start();
  regions.at(2000, () => options.regional?.reload({ rows: [] }, timeOf(regions, "us1-a")));
  regions.at(10_000, () => regions.put("eu1-a", "web"));
  regions.at(14_000, () => {
    const told = options.regional?.told.flatMap((each) =>
      each.kind === "summaryRefused" && each.event.name === "web" ? [each.event] : [],
    );
    expect(told).toMatchObject([{ why: "unknown_key", source: "eu1", via: "eu1", namespace: "svc", name: "web" }]);
    const agoMs = timeOf(regions, "us1-a").wallMs - (told?.[0]?.atWallMs ?? 0);
    expect(agoMs).toBeGreaterThan(1000);
    expect(agoMs).toBeLessThan(4000);
  });
  expect(regions.run(14_100)).toEqual([]);
});

function timeOf(regions: Regions, nodeId: string): Time {
  const { process } = regions.node(nodeId);
  if (process === undefined) throw new Error(`${nodeId} does not run`);
  return process.time();
}
