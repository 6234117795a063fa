/** Determines the targets and protocols of probes. */
import { statusesOf } from "../../catalog/entry/checks.ts";
import { parseAddress } from "../../lib/addresses.ts";
import type { WatchedCheck } from "./watched-checks.ts";

interface ConnectTarget {
  /** A name, or an IPv4 or IPv6 literal. */
  readonly host: string;
  readonly port: number;
  /** Time limit for the whole probe: name resolution, connecting and the answer. */
  readonly timeoutMs: number;
}

export type HealthProbe = ConnectTarget &
  (
    | { readonly kind: "tcp" }
    | {
        readonly kind: "http";
        readonly isTls: boolean;
        readonly path: string;
        readonly statuses: { readonly min: number; readonly max: number };
      }
    | { readonly kind: "grpc"; readonly isTls: boolean; readonly service: string }
  );

/** Whether a host must be looked up before a probe can connect to it. */
export function isName(host: string): boolean {
  return parseAddress(host) === undefined;
}

/** Returns the probe of a check. Returns undefined for a check that does not open a connection. */
export function probeOf({ check: { probe }, target, times: { timeoutMs } }: WatchedCheck): HealthProbe | undefined {
  if (target === undefined) return undefined;
  const connecting = { host: target.host, port: target.port, timeoutMs };
  switch (probe.case) {
    case "tcp":
      return { ...connecting, kind: "tcp" };
    case "http":
      return { ...connecting, kind: "http", isTls: probe.value.tls, path: probe.value.path || "/", statuses: statusesOf(probe.value) };
    case "grpc":
      return { ...connecting, kind: "grpc", isTls: probe.value.tls, service: probe.value.service };
    case "ttl":
    case "alias":
    case undefined:
      return undefined;
  }
}
