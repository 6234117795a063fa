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

/** Methods of DiscoveryService that write, or that concern other nodes or summaries. */
const PASSED_ON = [
  "register",
  "renew",
  "keepAlive",
  "unregister",
  "setMaintenance",
  "clusterMap",
  "listPeers",
  "summaryQuery",
  "summaryWatch",
] as const;

/** Refusals of Resolve in whose place the main thread may know another cluster. */
const MISSES: ReadonlySet<string> = new Set(["not_found", "in_maintenance"]);

/** Methods that need the stored summaries of a node, if it has any. Workers have no copy of the summaries. */
const OF_SUMMARIES = ["resolve", "namespaceStatus"] as const;

/** `reads`: what the worker answers itself. `hasSummaries`: the node holds summaries, and knows where to send callers whose name has nothing to choose here. */
export function servicesOfWorker(
  calls: CallForwarder,
  reads: ReadHandlers,
  admission: Admission,
  hasSummaries = false,
): readonly Service[] {
  const readers = { register: readRegisterRequest, keepAlive: readKeepAliveRequest };
  const { desc, handlers, routes } = calls.service(DiscoveryService, { methods: PASSED_ON, readers, routes: [SUMMARY_ROUTE] });
  const own = hasSummaries ? withSummaries(reads, calls) : reads.handlers;
  const discovery = { desc, handlers: { ...handlers, ...own }, routes: [...reads.routes, ...routes] };
  const policy = calls.service(PolicyService, { routes: POLICY_ROUTES });
  const peers = calls.service(PeerService, { routes: PEER_ROUTES });
  const resolver = resolverService(reads.resolveName);
  // Listeners add what a copy answers itself.
  const dns = calls.service(DnsService, { methods: ["registerName", "unregisterName"] });
  return [...[discovery, resolver, dns].map((service) => admitted(service, admission)), policy, peers];
}

function withSummaries(reads: ReadHandlers, calls: CallForwarder): Service["handlers"] {
  const forwarded = calls.service(DiscoveryService, { methods: OF_SUMMARIES });
  const { resolve: passedOn, ...ofSummaries } = forwarded.handlers;
  const handlers = { ...reads.handlers, ...ofSummaries };
  const { resolve } = reads.handlers;
  if (resolve.kind !== "unary" || passedOn?.kind !== "unary") return handlers;
  const handle: UnaryHandler<never> = (request, context) => {
    try {
      return resolve.handle(request, context);
    } catch (error) {
      // Nobody is sent elsewhere for what the policy hides, and a second refusal would stand in the audit.
      if (!(error instanceof WaymarkError) || !MISSES.has(error.reason) || !reads.maySee(request, context.caller)) throw error;
      return passedOn.handle(request, context);
    }
  };
  return { ...handlers, resolve: { ...resolve, handle } };
}
