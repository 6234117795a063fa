/** The services of a read worker. The services answer calls from the worker's copy of the catalog, and forward all other calls to the main thread. */
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { WaymarkError } from "../../lib/errors.ts";
import { resolverService } from "../discovery/discovery.ts";
import type { ReadHandlers } from "../discovery/read-handlers.ts";
import type { SentRoute, ServiceDefinition, UnaryHandler } from "../service.ts";
import { everyService } from "../service-table.ts";
import type { CallForwarder } from "./call-forwarder.ts";

/** Errors of Resolve for which the main thread may redirect the caller to another cluster. */
const MISSES: ReadonlySet<string> = new Set(["not_found", "in_maintenance"]);

export interface WorkerServicesParts {
  /** The handlers for calls that the worker answers itself. */
  readonly reads: ReadHandlers;
  /** The routes of the main thread, by service name. */
  readonly routes: Readonly<Record<string, readonly SentRoute[]>>;
  /** Whether the node has summaries, so that it can redirect callers if a name has no local entry. */
  readonly hasSummaries: boolean;
}

/** Returns the services without the DnsService handlers that read names from the catalog. The listeners add these handlers. */
export function workerServices(calls: CallForwarder, { reads, routes, hasSummaries }: WorkerServicesParts): readonly ServiceDefinition[] {
  const handlers = hasSummaries ? withSummaries(reads, calls) : reads.handlers;
  const own = [{ desc: DiscoveryService, handlers, routes: reads.routes }, resolverService(reads.resolveName)];
  const ownOf = (desc: ServiceDefinition["desc"]) => own.find((service) => service.desc === desc);
  return everyService((desc) => calls.service(desc, ownOf(desc), routes[desc.typeName]));
}

/** Forwards the calls that may need summaries to the main thread, because workers have no copy of the summaries. */
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
      // Names that the policy hides are not forwarded, because clients must not be redirected for them, and a second refusal would appear in the
      // audit log.
      if (!(error instanceof WaymarkError) || !MISSES.has(error.reason) || !reads.maySee(request, context.caller)) throw error;
      return proxied.handle(request, context);
    }
  };
  return { ...handlers, resolve: { ...resolve, handle } };
}
