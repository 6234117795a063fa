/** The services of a read worker: it answers what a copy of the catalog can, and the main thread answers the rest. */
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { WaymarkError } from "../../lib/errors.ts";
import { resolverService } from "../discovery/discovery.ts";
import type { ReadHandlers } from "../discovery/read-handlers.ts";
import type { RouteRow, ServiceDefinition, UnaryHandler } from "../service.ts";
import { everyService } from "../service-table.ts";
import type { CallForwarder } from "./call-forwarder.ts";

/** Refusals of Resolve in whose place the main thread may know another cluster. */
const MISSES: ReadonlySet<string> = new Set(["not_found", "in_maintenance"]);

export interface WorkerServicesParts {
  /** What the worker answers itself. */
  readonly reads: ReadHandlers;
  /** The routes of the main thread, by the name of their service. */
  readonly routes: Readonly<Record<string, readonly RouteRow[]>>;
  /** Whether the node holds summaries, and knows where to redirect callers whose name has no entry here. */
  readonly hasSummaries: boolean;
}

/** Without the names that DnsService reads from the catalog, which listeners add. */
export function workerServices(calls: CallForwarder, { reads, routes, hasSummaries }: WorkerServicesParts): readonly ServiceDefinition[] {
  const handlers = hasSummaries ? withSummaries(reads, calls) : reads.handlers;
  const own = [{ desc: DiscoveryService, handlers, routes: reads.routes }, resolverService(reads.resolveName)];
  const ownOf = (desc: ServiceDefinition["desc"]) => own.find((service) => service.desc === desc);
  return everyService((desc) => calls.service(desc, ownOf(desc), routes[desc.typeName]));
}

/** Workers have no copy of the stored summaries: the main thread answers where these may count. */
function withSummaries(reads: ReadHandlers, calls: CallForwarder): ServiceDefinition["handlers"] {
  const { method } = DiscoveryService;
  const handlers = { ...reads.handlers, namespaceStatus: calls.handler(method.namespaceStatus) };
  const proxied = calls.handler(method.resolve);
  const { resolve } = reads.handlers;
  if (resolve.kind !== "unary" || proxied.kind !== "unary") return handlers;
  const handle: UnaryHandler<never> = (request, context) => {
    try {
      return resolve.handle(request, context);
    } catch (error) {
      // Clients are not redirected for what the policy hides, and a second refusal would be in the audit.
      if (!(error instanceof WaymarkError) || !MISSES.has(error.reason) || !reads.maySee(request, context.caller)) throw error;
      return proxied.handle(request, context);
    }
  };
  return { ...handlers, resolve: { ...resolve, handle } };
}
