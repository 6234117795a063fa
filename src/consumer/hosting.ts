/**
 * Determines the addresses of nodes, and of functions and queues that are hosted by a node and have no targets. Resolve, clients and DNS all use this
 * file.
 */
import { serverPort } from "../lib/protocols.ts";
import { type HealthNumber, isDrained, isHosted } from "./health-tiers.ts";
import type { WeightedTarget } from "./targets.ts";

export interface AdvertisedTarget extends WeightedTarget {
  readonly name: string;
  readonly host: string;
  readonly port: number;
  readonly protocol: string;
}

interface HostNode {
  readonly key?: { readonly clusterId: string } | undefined;
  readonly health: HealthNumber;
}

/** The `detail` field of a NODE entry, either decoded or as a message. */
interface NodeDetail {
  readonly value?: object | undefined;
}

interface HostedEntry {
  readonly key?: { readonly kind: number; readonly clusterId: string } | undefined;
  readonly health: HealthNumber;
  readonly targets: readonly unknown[];
  readonly nodeId: string;
}

/** Scheme of the fabric URL, which only other nodes use (`src/services/node-entry.ts`). */
const FABRIC_SCHEME = "fabric";
/** Groups: scheme, host in brackets, other host, port. */
const URL_PARTS = /^(?:([a-z][a-z0-9+.-]*):\/\/|(?!.*:\/\/))(?:[^@/?#]*@)?(?:\[([^\]]+)\]|([^:/?#]+))(?::(\d{1,5})(?!\d))?/i;

/** Whether an entry is called through its node. */
export function isCalledAtNode({ key, health, targets, nodeId }: HostedEntry): boolean {
  return targets.length === 0 && nodeId !== "" && isHosted(key?.kind ?? 0) && !isDrained({ health });
}

/**
 * Returns the node through which an entry is called, among the entries of its node ID. Returns undefined if an operator has put the node into
 * maintenance.
 */
export function hostOf<N extends HostNode>({ key }: HostedEntry, nodes: Iterable<N>): N | undefined {
  for (const node of nodes) if (node.key?.clusterId === key?.clusterId && !isDrained(node)) return node;
  return undefined;
}

/** Returns the targets for calls to the entries that a node hosts. */
export function hostTargets(detail: NodeDetail): readonly AdvertisedTarget[] {
  return advertisedTargets(detail).filter(({ port, protocol }) => port > 0 && protocol !== FABRIC_SCHEME);
}

/** Returns the endpoints of a node's advertised URLs. The port is 0 if the URL does not contain one. */
export function advertisedTargets({ value }: NodeDetail): readonly AdvertisedTarget[] {
  const urls = value !== undefined && "advertisedUrls" in value && Array.isArray(value.advertisedUrls) ? value.advertisedUrls : [];
  return urls.flatMap((url) => advertisedTarget(String(url)) ?? []);
}

/** Returns the endpoint of an advertised URL. The port is 0 if the URL does not contain one. Returns undefined for a URL without a host. */
export function advertisedTarget(url: string): AdvertisedTarget | undefined {
  const [, scheme = "", bracketed, plain, port] = URL_PARTS.exec(url) ?? [];
  const host = bracketed ?? plain;
  const protocol = scheme.toLowerCase();
  const number = Number(port ?? serverPort(scheme) ?? 0);
  return host === undefined ? undefined : { name: "", host, port: number > 65_535 ? 0 : number, priority: 0, weight: 0, protocol };
}
