/** Real nodes that elect leaders: their settings, and what each of them says of its leaders and of its control store. */
import type { JsonObject } from "@bufbuild/protobuf";
import { compareFences, type FenceToken } from "../../src/lib/fence.ts";
import { ClusterHome } from "./cluster-home.ts";
import { EventReader } from "./event-reader.ts";
import type { NodeProcess } from "./node-process.ts";
import { until } from "./until.ts";

/** The shortest lease, so that a test that waits for its end is quick. */
export const LEASE_MS = 1500;
const STORE_TIMEOUT_MS = 500;

export interface ElectedLeader {
  readonly nodeId: string;
  readonly term: number;
  readonly fence: FenceToken;
}

interface LeadersAnswer {
  readonly leaders: readonly {
    readonly scope: string;
    readonly holderId: string;
    readonly nodeId: string;
    readonly term: string;
    readonly fence: { readonly failoverVersion: string; readonly storeEpoch: string; readonly number: string };
  }[];
  readonly store: { readonly id: string; readonly epoch: string; readonly fault: string };
}

/** A folder for nodes of one cluster with a short lease. With endpoints of etcd, they share it. */
export function leaderHome(
  clusterId: string,
  endpoints: readonly string[] = [],
  more: Readonly<Record<string, JsonObject>> = {},
): ClusterHome {
  const store = endpoints.length === 0 ? {} : { kind: "etcd", endpoints: [...endpoints], timeout: `${STORE_TIMEOUT_MS}ms` };
  return new ClusterHome({
    ...more,
    node: { cluster_id: clusterId, region: "eu", ...more["node"] },
    leadership: { lease: `${LEASE_MS}ms`, ...more["leadership"] },
    store: { ...store, ...more["store"] },
  });
}

const urlOf = (node: NodeProcess, path: string): string => `http://${node.listeners["http"]}${path}`;

export async function leadersOf(node: NodeProcess): Promise<LeadersAnswer> {
  return (await (await fetch(urlOf(node, "/control/leaders"))).json()) as LeadersAnswer;
}

/** The leader of a scope, as this node knows it. */
export async function leaderOf(node: NodeProcess, scope = "global-control"): Promise<ElectedLeader | undefined> {
  const found = (await leadersOf(node)).leaders.find((each) => each.scope === scope && each.holderId !== "");
  if (found === undefined) return undefined;
  const { nodeId, term, fence } = found;
  const numbers = { failoverVersion: Number(fence.failoverVersion), storeEpoch: Number(fence.storeEpoch), number: Number(fence.number) };
  return { nodeId, term: Number(term), fence: numbers };
}

/** Waits until all these nodes name the same leader, after an earlier one if there was one. */
export async function oneLeader(nodes: readonly NodeProcess[], after?: ElectedLeader, withinMs?: number): Promise<ElectedLeader> {
  let leader: ElectedLeader | undefined;
  const look = async (): Promise<readonly string[]> => {
    const found = await Promise.all(nodes.map((node) => leaderOf(node)));
    leader = found[0];
    const isSame = found.every((each) => each !== undefined && each.nodeId === leader?.nodeId && each.term === leader.term);
    const isLater =
      after === undefined || (leader !== undefined && leader.term > after.term && compareFences(leader.fence, after.fence) > 0);
    return isSame && isLater ? [] : found.map((each) => JSON.stringify(each));
  };
  await until("all nodes have the same leader", look, withinMs);
  if (leader === undefined) throw new Error("there is no leader");
  return leader;
}

/** The line of `/readyz` about a part. */
export async function readinessOf(node: NodeProcess, part = "control store"): Promise<string> {
  const { checks } = (await (await fetch(urlOf(node, "/readyz"))).json()) as {
    readonly checks: readonly { name: string; detail: string }[];
  };
  return checks.find(({ name }) => name === part)?.detail ?? "";
}

/** Waits until the line of `/readyz` about the control store matches. */
export async function storeSays(node: NodeProcess, pattern: RegExp): Promise<void> {
  await until(`${node.nodeId} says ${pattern.source}`, async () => {
    const line = await readinessOf(node);
    return pattern.test(line) ? [] : [line];
  });
}

/** The value of a metric of a node. */
export async function metricOf(node: NodeProcess, name: string): Promise<number> {
  const line = (await (await fetch(urlOf(node, "/metrics"))).text()).split("\n").find((each) => each.startsWith(`${name} `));
  return Number(line?.split(" ").at(-1) ?? Number.NaN);
}

/** Follows the events of a node's leaders, after an event if there is one. */
export function leaderEvents(node: NodeProcess, lastEventId?: string): EventReader {
  const headers = lastEventId === undefined ? {} : { "last-event-id": lastEventId };
  return new EventReader({ base: urlOf(node, ""), path: "/control/events/leadership", version: "1.1", headers });
}

/** The answer to an rpc over HTTP: its JSON, or the message of the error, which begins with the reason. */
export interface RpcAnswer {
  readonly isOk: boolean;
  readonly tookMs: number;
  readonly body: Readonly<Record<string, unknown>> & { readonly message?: string };
}

/** Makes a call, such as `waymark.policy.v1.PolicyService/ApplyPolicy`. */
export async function callNode(node: NodeProcess, method: string, request: object): Promise<RpcAnswer> {
  const startMs = performance.now();
  const headers = { "content-type": "application/json" };
  const answer = await fetch(urlOf(node, `/${method}`), { method: "POST", headers, body: JSON.stringify(request) });
  const body = (await answer.json()) as RpcAnswer["body"];
  return { isOk: answer.ok, tookMs: performance.now() - startMs, body };
}

export const RESIGN = "waymark.control.v1.LeadershipService/Resign";
const APPLY = "waymark.policy.v1.PolicyService/ApplyPolicy";

/** A rule with these has about 1,300 bytes. */
const TENANTS = Array.from({ length: 20 }, (_, at) => `tenant-${at}`.padEnd(60, "x"));

/** Applies a policy that allows everything. `rules` makes it larger. */
export function applyPolicy(node: NodeProcess, version: string, { expected = 0, rules = 0 } = {}): Promise<RpcAnswer> {
  const list = Array.from({ length: rules }, (_, at) => ({ namespace: `svc.n${at}`, visibilityTenants: TENANTS }));
  return callNode(node, APPLY, { policy: { version, defaultAllow: true, rules: list }, expectedNumber: expected, reason: "test" });
}
