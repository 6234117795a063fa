/** Lists the service types of a domain for DNS-SD browsing (RFC 6763). */

import type { EntryView } from "../../catalog/entry/view.ts";
import { portWord, TRANSPORTS } from "../../catalog/entry/view.ts";
import { KIND, type Kind } from "../../catalog/record/record.ts";
import { isDrained } from "../../consumer/health-tiers.ts";
import type { TransportProtocol } from "../../lib/protocols.ts";
import { formatName, parseDomain } from "../names/names.ts";

/** Maximum number of names in one list. */
export const MAX_BROWSED = 500;

/** Maximum number of names that one address resolves to in a reverse zone. */
export const MAX_AT_ADDRESS = 64;

/** Items in order. `isCut` means that the list is or may be incomplete. */
export interface TruncatedList<T> {
  readonly items: readonly T[];
  readonly isCut: boolean;
  /** Set when the list omits entries in maintenance. The name of the list then exists even if the list is empty. Absent when no entry was omitted. */
  readonly hasDrained?: true;
  /** The distinct values from the listed entries that limit the list's TTL. If absent, the TTL is not limited. */
  readonly ttlSources?: readonly TtlSource[];
}

/** The entry fields that limit the TTL of a list that contains the entry. */
export type TtlSource = Pick<EntryView, "health" | "ttlMs">;

export interface ListedService {
  readonly name: string;
  readonly transports: readonly TransportProtocol[];
}

export interface BrowsableCatalog {
  find(kind: Kind, namespace: string, name: string, port?: string): readonly EntryView[];
  /** Returns the services of a namespace that have a visible entry, ordered by name. */
  services(namespace: string): TruncatedList<ListedService>;
}

/**
 * Returns the full service type names for a domain. If the domain is a namespace, these are the types of all its services; if it is a service, only
 * its types.
 */
export function typesOf(domain: string, zone: string, catalog: BrowsableCatalog): TruncatedList<string> {
  const { service, namespace } = parseDomain(domain);
  let hasDrained = false;
  const ttlSources: TtlSource[] = [];
  const names = new Set<string>();
  const add = (name: string, of: string, transports: readonly TransportProtocol[]): void => {
    for (const transport of transports) {
      const text = formatName({ form: "located", kind: KIND.SERVICE, transport, name, namespace: of }, zone);
      if (text !== undefined) names.add(text);
    }
  };
  if (service !== undefined) {
    const { name, namespace: of } = service;
    const has = (transport: TransportProtocol) => {
      const found = catalog.find(KIND.SERVICE, of, name, portWord(transport));
      const shown = found.filter((entry) => !isDrained(entry));
      if (found.length > shown.length && shown.length === 0) hasDrained = true;
      ttlSources.push(...shown);
      return shown.length > 0;
    };
    add(name, of, TRANSPORTS.filter(has));
  }
  const services = namespace === undefined ? undefined : catalog.services(namespace);
  for (const { name, transports } of services?.items ?? []) add(name, namespace ?? "", transports);
  if (services?.hasDrained === true) hasDrained = true;
  ttlSources.push(...(services?.ttlSources ?? []));
  const items = [...names];
  const isCut = services?.isCut === true || items.length > MAX_BROWSED;
  return { items: items.slice(0, MAX_BROWSED), isCut, ...(hasDrained && { hasDrained }), ...(ttlSources.length > 0 && { ttlSources }) };
}

/** Returns whether the name that lists the service types exists. Like other names, this name exists even if all its entries are drained. */
export function hasTypes({ items, hasDrained }: TruncatedList<string>): boolean {
  return items.length > 0 || hasDrained === true;
}
