/** The services of a read worker: it answers reads itself, and passes all other calls on to the main thread. */
import { PeerService } from "../../../gen/waymark/control/v1/peer_pb.js";
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { DnsService } from "../../../gen/waymark/dns/v1/dns_pb.js";
import { PolicyService } from "../../../gen/waymark/policy/v1/policy_pb.js";
import { WaymarkError } from "../../lib/errors.ts";
import { type Admission, admitted } from "../admission.ts";
import type { ReadHandlers } from "../discovery/read-handlers.ts";
import { readKeepAliveRequest, readRegisterRequest } from "../discovery/request-bytes.ts";
import { SUMMARY_ROUTE } from "../discovery/summary-route.ts";
import { PEER_ROUTES } from "../peers.ts";
import { POLICY_ROUTES } from "../policy.ts";
import { resolverService } from "../resolver.ts";
import type { Service, UnaryHandler } from "../service.ts";
import type { CallForwarder } from "./call-forwarder.ts";

/** Methods of DiscoveryService that write, or tell of other nodes. */
const PASSED_ON = ["register", "renew", "keepAlive", "unregister", "setMaintenance", "clusterMap", "listPeers"] as const;

/** Refusals of Resolve in whose place the main thread may know another cluster. */
const MISSES: ReadonlySet<string> = new Set(["not_found", "in_maintenance"]);

/** Methods of a node that holds summaries, which no worker has a copy of. */
const OF_SUMMARIES = ["summaryQuery", "summaryWatch", "resolve", "namespaceStatus"] as const;

/** `reads`: what the worker answers itself. `hasSummaries`: the node holds summaries, and knows where to send callers whose name has nothing to choose here. */
export function servicesOfWorker(
  calls: CallForwarder,
  reads: ReadHandlers,
  admission: Admission,
  hasSummaries = false,
): readonly Service[] {
  const readers = { register: readRegisterRequest, keepAlive: readKeepAliveRequest };
  const { desc, handlers } = calls.service(DiscoveryService, { methods: PASSED_ON, readers });
  const own = hasSummaries ? withSummaries(reads, calls) : reads;
  const discovery = { desc, handlers: { ...handlers, ...own.handlers }, routes: own.routes };
  const policy = calls.service(PolicyService, { routes: POLICY_ROUTES });
  const peers = calls.service(PeerService, { routes: PEER_ROUTES });
  const resolver = resolverService(reads.resolveName);
  // Listeners add what a copy answers itself.
  const dns = calls.service(DnsService, { methods: ["registerName", "unregisterName"] });
  return [...[discovery, resolver, dns].map((service) => admitted(service, admission)), policy, peers];
}

function withSummaries(reads: ReadHandlers, calls: CallForwarder): Required<Pick<Service, "handlers" | "routes">> {
  const forwarded = calls.service(DiscoveryService, { methods: OF_SUMMARIES, routes: [SUMMARY_ROUTE] });
  const { resolve: passedOn, ...ofSummaries } = forwarded.handlers;
  const handlers = { ...reads.handlers, ...ofSummaries };
  const routes = [...reads.routes, ...forwarded.routes];
  const { resolve } = reads.handlers;
  if (resolve.kind !== "unary" || passedOn?.kind !== "unary") return { handlers, routes };
  const handle: UnaryHandler<never> = (request, context) => {
    try {
      return resolve.handle(request, context);
    } catch (error) {
      // Nobody is sent elsewhere for what the policy hides, and a second refusal would stand in the audit.
      if (!(error instanceof WaymarkError) || !MISSES.has(error.reason) || !reads.maySee(request, context.caller)) throw error;
      return passedOn.handle(request, context);
    }
  };
  return { handlers: { ...handlers, resolve: { ...resolve, handle } }, routes };
}
