/**
 * The files of the guide of regions, started as they stand: three ways to connect regions.
 * @module-tag night
 */
import { expect, test } from "vitest";
import { filesOf, GuideNodes } from "../fakes/guide-nodes.ts";
import { GrpcDoor } from "../fakes/node.ts";
import { summariesIn } from "../fakes/region-fleet.ts";
import { until } from "../fakes/until.ts";

const FILES = filesOf("docs/guides/regions.md");

/** Names of the nodes of a part of the page. */
function nodesOf(part: string): readonly string[] {
  const files = [...FILES.keys()].filter((name) => name.startsWith(`${part}: `));
  return files.map((name) => name.slice(`${part}: `.length, -".toml".length));
}

test.each([
  { part: "mesh", regions: ["ap1", "eu1", "us1"] },
  { part: "hub and spoke", regions: ["ap1", "eu1", "us1"] },
  { part: "hybrid", regions: ["ap1", "eu1", "sa1", "us1"] },
])("$part: every region shows the service of every region", async ({ part, regions }) => {
  const names = nodesOf(part);
  expect(names.map((name) => name.split("-")[0] ?? "").toSorted()).toEqual(regions);
  await using nodes = await GuideNodes.of(names);
  const common = FILES.get("the end of these files") ?? "";
  await Promise.all(names.map((name) => nodes.start(name, wholeOf(FILES.get(`${part}: ${name}.toml`) ?? "", common))));
  for (const [name, node] of nodes.running) {
    using door = new GrpcDoor(node.grpc);
    const entry = {
      key: { kind: "ENTRY_KIND_SERVICE", namespace: "svc.market", name: `of-${name}`, instanceId: "1" },
      scope: "SCOPE_GLOBAL",
    };
    expect(await door.ask("register", { entries: [entry], staticLease: true })).toMatchObject({ code: "OK" });
  }
  const wanted = names.map((name) => `${name.split("-")[0]} of-${name} fresh`).toSorted();
  await until("every region shows all", async () => {
    const seen = await Promise.all([...nodes.running.values()].map(async (node) => linesOf(await summariesIn(node))));
    return seen.filter((lines) => lines.join() !== wanted.join()).map((lines) => lines.join());
  });
});

function linesOf(items: Awaited<ReturnType<typeof summariesIn>>): readonly string[] {
  return items
    .map(({ sourceCluster, serviceId, stale }) => `${sourceCluster} ${serviceId} ${stale === true ? "stale" : "fresh"}`)
    .toSorted();
}

/** A file of the page, with the end that is shown once where it has none of its own. */
function wholeOf(file: string, end: string): string {
  return file.includes("[summary]") ? file : `${file}${end}`;
}
