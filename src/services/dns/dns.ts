/** DnsService as listeners serve it: its writes come with the services of the process, and what any copy of the catalog answers is added here. */
import { DiscoveryService } from "../../../gen/waymark/discovery/v1/discovery_pb.js";
import { DnsService } from "../../../gen/waymark/dns/v1/dns_pb.js";
import type { Service } from "../service.ts";
import { type NameAnswersParts, resolveNameHandler } from "./answers.ts";
import { nameListHandlers } from "./names.ts";

/** The services, of which DnsService has its reads too. Without DnsService or the queries of DiscoveryService they stay as they are. */
export function withNameReads(services: readonly Service[], parts: NameAnswersParts): readonly Service[] {
  const query = services.find(({ desc }) => desc === DiscoveryService)?.handlers["catalogQuery"];
  if (query === undefined) return services;
  const reads = { ...nameListHandlers({ query, zones: parts.settings.zones }), resolveName: resolveNameHandler(parts) };
  return services.map((service) => (service.desc === DnsService ? { ...service, handlers: { ...service.handlers, ...reads } } : service));
}
