/** The services of a read worker: it answers reads itself, and passes all other calls on to the main thread. */
import { PeerService } from "../../../gen/waymark/control/v1/peer_pb.js";
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { DnsService } from "../../../gen/waymark/dns/v1/dns_pb.js";
import { PolicyService } from "../../../gen/waymark/policy/v1/policy_pb.js";
import { type Admission, admitted } from "../admission.ts";
import type { ReadHandlers } from "../discovery/read-handlers.ts";
import { readKeepAliveRequest, readRegisterRequest } from "../discovery/request-bytes.ts";
import { PEER_ROUTES } from "../peers.ts";
import { POLICY_ROUTES } from "../policy.ts";
import { resolverService } from "../resolver.ts";
import type { Service } from "../service.ts";
import type { CallForwarder } from "./call-forwarder.ts";

/** Methods of DiscoveryService that write, or tell of other nodes. */
const PASSED_ON = ["register", "renew", "keepAlive", "unregister", "setMaintenance", "clusterMap", "listPeers"] as const;

/** `reads`: what the worker answers itself. */
export function servicesOfWorker(calls: CallForwarder, reads: ReadHandlers, admission: Admission): readonly Service[] {
  const readers = { register: readRegisterRequest, keepAlive: readKeepAliveRequest };
  const { desc, handlers } = calls.service(DiscoveryService, { methods: PASSED_ON, readers });
  const discovery = { desc, handlers: { ...handlers, ...reads.handlers }, routes: reads.routes };
  const policy = calls.service(PolicyService, { routes: POLICY_ROUTES });
  const peers = calls.service(PeerService, { routes: PEER_ROUTES });
  const resolver = resolverService(reads.resolveName);
  // Listeners add what a copy answers itself.
  const dns = calls.service(DnsService, { methods: ["registerName", "unregisterName"] });
  return [...[discovery, resolver, dns].map((service) => admitted(service, admission)), policy, peers];
}
