/** Validates the metadata keys that Waymark itself uses. All other metadata is free for clients. */
import { METADATA_KEY } from "../../lib/bounds.ts";
import { findHostForm } from "./hosts.ts";
import { isName, nameRule, quoted } from "./names.ts";
import type { Problems } from "./problems.ts";

const DNS_PREFIX = "waymark.dns.";
const DNS_KEYS: readonly string[] = Object.values(METADATA_KEY).filter((key) => key.startsWith(DNS_PREFIX));

/** Adds the problems of a client's metadata to `problems`. */
export function checkMetadata(metadata: Readonly<Record<string, string>>, problems: Problems): void {
  const { maxHostLength, maxNameLength } = problems.bounds;
  for (const key of Object.keys(metadata))
    if (key.startsWith(DNS_PREFIX) && !DNS_KEYS.includes(key))
      problems.add(
        `metadata[${quoted(key)}]`,
        `is not a key that clients may set; the keys that begin with ${DNS_PREFIX} are: ${DNS_KEYS.join(", ")}`,
      );
  const host = metadata[METADATA_KEY.CNAME];
  if (host !== undefined && findHostForm(host, maxHostLength) !== "name")
    problems.add(`metadata[${quoted(METADATA_KEY.CNAME)}]`, `${quoted(host)} must be a DNS name; an address belongs in targets`);
  const importer = metadata[METADATA_KEY.IMPORT];
  if (importer !== undefined && !isName(importer, maxNameLength))
    problems.add(`metadata[${quoted(METADATA_KEY.IMPORT)}]`, nameRule(importer, maxNameLength, problems.bounds));
}
