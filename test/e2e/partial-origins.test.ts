/**
 * Real nodes whose settings differ hold the same; where a record is refused all the same, everybody is told.
 * @module-tag night
 */

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { JsonObject } from "@bufbuild/protobuf";
import { afterAll, expect, test } from "vitest";
import { GrpcDoor } from "../fakes/node.ts";
import { type NodeProcess, startNodeProcess } from "../fakes/node-process.ts";
import { readyz, UnreadyNode } from "../fakes/unready-node.ts";
import { until } from "../fakes/until.ts";

const WEB = "svc.market";
const HOME = mkdtempSync(join(tmpdir(), "waymark-partial-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

function start(nodeId: string, flags: readonly string[], settings: readonly string[] = []): Promise<NodeProcess> {
  const place = ["--ephemeral", "--node-id", nodeId, "--cluster-id", "c1", "--region", "eu"];
  return startNodeProcess([...place, ...flags], ["env", ...settings]);
}

const joining = (node: NodeProcess): readonly string[] => ["--join", node.listeners["fabric"] ?? ""];

async function countAt(door: GrpcDoor, namespace = WEB): Promise<number> {
  let count = 0;
  for (let pageToken = ""; ; ) {
    const { response } = await door.ask("catalogQuery", { namespace, limit: 1000, ...(pageToken !== "" && { pageToken }) });
    const { items = [], nextPageToken = "" } = response as { items?: JsonObject[]; nextPageToken?: string };
    count += items.length;
    if (nextPageToken === "") return count;
    pageToken = nextPageToken;
  }
}

const httpOf = ({ listeners }: NodeProcess): string => listeners["http"] ?? "";

async function readiness(node: NodeProcess): Promise<string> {
  return (await fetch(`http://${httpOf(node)}/readyz`)).text();
}

interface Lag {
  readonly caughtUp: boolean;
  readonly detail: string;
  readonly origins: readonly JsonObject[];
  readonly links: readonly JsonObject[];
}

async function lagAt(http: string): Promise<Lag> {
  return (await (await fetch(`http://${http}/discovery/lag`)).json()) as Lag;
}

test("a node with narrow limits holds what a peer with wide ones took", async () => {
  await using narrow = await start("a", [], ["WAYMARK_LIMITS__MAX_LIST_ITEMS=2", "WAYMARK_LIMITS__MAX_NAME_LENGTH=16"]);
  await using wide = await start("b", joining(narrow));
  using here = new GrpcDoor(narrow.grpc);
  using there = new GrpcDoor(wide.grpc);
  const key = { kind: "ENTRY_KIND_SERVICE", namespace: WEB, name: "a-name-that-is-longer-than-sixteen", instanceId: "1" };
  const entry = { key, tags: ["one", "two", "three", "four"] };
  expect((await here.ask("register", { entries: [entry], staticLease: true })).code).toBe("INVALID_ARGUMENT");
  expect((await there.ask("register", { entries: [entry], staticLease: true })).code).toBe("OK");
  await until("it is there", async () => ((await countAt(here)) === 1 ? [] : ["not yet"]));
  expect(await readiness(narrow)).not.toContain("partial");
});

test("more records of a node than are allowed: it is partial, both ends say so, and its peers are no source of it", async () => {
  await using small = await start("a", [], ["WAYMARK_FABRIC__MAX_ORIGIN_RECORDS=1000"]);
  await using full = await start("b", joining(small));
  using here = new GrpcDoor(small.grpc);
  using there = new GrpcDoor(full.grpc);
  const entries = Array.from({ length: 1000 }, (_, n) => ({
    key: { kind: "ENTRY_KIND_SERVICE", namespace: WEB, name: `web${n}`, instanceId: "1" },
  }));
  expect((await there.ask("register", { entries, staticLease: true })).code).toBe("OK");
  await until("the one beyond is refused", async () => {
    const text = await readiness(small);
    return text.includes("incomplete because records were refused") && text.includes("more than 1000 records from one origin")
      ? []
      : [text];
  });
  expect(await countAt(here)).toBeLessThan(1000);
  await full.command.errorLine(/origin_partial_at_peer/);
  await small.command.errorLine(/"event":"origin_partial"/);
  await until("its answers have an age", async () => {
    const { code, reason } = await here.ask("catalogQuery", { namespace: WEB, maxStaleness: "1s" });
    return code === "UNAVAILABLE" && reason === "too_stale" ? [] : [`${code} ${reason}`];
  });
  const { caughtUp, detail, origins, links } = await lagAt(httpOf(small));
  expect([caughtUp, detail]).toEqual([false, expect.stringContaining("incomplete because records were refused") as unknown]);
  expect(origins).toHaveLength(2);
  expect(origins).toEqual(expect.arrayContaining(["a", "b"].map((nodeId): unknown => expect.objectContaining({ nodeId }))));
  const told = origins.find(({ nodeId }) => nodeId === "b");
  const known = told?.["known"];
  expect(told).toMatchObject({ through: "0", known, behind: known, whyPartial: "quota_exceeded: more than 1000 records from one origin" });
  expect([Number(known) > 1000, Number(told?.["refused"]) > 0]).toEqual([true, true]);
  expect(links).toMatchObject([{ nodeId: "b", caughtUp: false, behind: known }]);
  const table = await small.run(["discovery", "lag"]);
  expect(table.stdout).toMatch(/b +\d+ +live +0 +(\d+) +\1 +no/);
  const own = { key: { kind: "ENTRY_KIND_SERVICE", namespace: "svc.own", name: "mine", instanceId: "1" } };
  expect((await here.ask("register", { entries: [own], staticLease: true })).code).toBe("OK");
  await until("others go on", async () => ((await countAt(there, "svc.own")) === 1 ? [] : ["not yet"]));
});

test("a node that restarts while an origin is partial says why its records are refused, and counts them", async () => {
  await using full = await start("b", []);
  using there = new GrpcDoor(full.grpc);
  const config = join(HOME, "a.json");
  writeFileSync(config, JSON.stringify({ node: { id: "a", cluster_id: "c1", region: "eu" }, fabric: { max_origin_records: 1000 } }));
  const flags = ["--config", config, "--data-dir", join(HOME, "a"), ...joining(full)];
  const isTold = async (http: string) => {
    const row = (await lagAt(http)).origins.find(({ nodeId }) => nodeId === "b");
    const isRight = row?.["whyPartial"] === "quota_exceeded: more than 1000 records from one origin" && Number(row["refused"]) > 500;
    return isRight ? [] : [JSON.stringify(row)];
  };
  {
    await using small = await startNodeProcess(flags);
    for (const from of [0, 750]) {
      const entries = Array.from({ length: 750 }, (_, n) => ({
        key: { kind: "ENTRY_KIND_SERVICE", namespace: WEB, name: `web${from + n}`, instanceId: "1" },
      }));
      expect((await there.ask("register", { entries, staticLease: true })).code).toBe("OK");
    }
    await until("what is beyond is refused", () => isTold(httpOf(small)));
    await small.stop("SIGTERM");
  }
  // It waits for somebody who has the origin whole before it is ready.
  await using again = await UnreadyNode.start(flags);
  await until("what is beyond is refused again", () => isTold(again.http));
  expect(await readyz(again.http)).not.toContain("before this node restarted");
});
