/** Browsing by DNS-SD (RFC 6763): which service types a domain has. */

import type { EntryView } from "../../catalog/entry/view.ts";
import { portWord, TRANSPORTS } from "../../catalog/entry/view.ts";
import { KIND, type Kind } from "../../catalog/record/record.ts";
import { isDrained } from "../../consumer/health-tiers.ts";
import type { TransportProtocol } from "../../lib/protocols.ts";
import { formatName, parseDomain } from "../names/names.ts";

/** Most names that one answer lists. */
export const MAX_BROWSED = 500;

/** Most names of one address that are told. */
export const MAX_AT_ADDRESS = 64;

/** Items in order. `isCut`: there are more, or there may be. */
export interface TruncatedList<T> {
  readonly items: readonly T[];
  readonly isCut: boolean;
  /** Whether there are others that are in maintenance: then the list exists, though it may be empty. Absent: no. */
  readonly hasDrained?: true;
  /** What decides how long the list may be kept, of the entries that it is read from: each such fact once. Absent: nothing does. */
  readonly ttlSources?: readonly TtlSource[];
}

/** What of an entry decides how long a list may be kept that it is in. */
export type TtlSource = Pick<EntryView, "health" | "ttlMs">;

export interface ListedService {
  readonly name: string;
  readonly transports: readonly TransportProtocol[];
}

export interface BrowsableCatalog {
  find(kind: Kind, namespace: string, name: string, port?: string): readonly EntryView[];
  /** The services of a namespace that have an entry to show, in order of their names. */
  services(namespace: string): TruncatedList<ListedService>;
}

/** Full names to browse: those of the services of the namespace that the domain spells, and those of the service that it spells. */
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

/** Whether the name that lists the types exists. What is drained still does, as its other names do. */
export function hasTypes({ items, hasDrained }: TruncatedList<string>): boolean {
  return items.length > 0 || hasDrained === true;
}
