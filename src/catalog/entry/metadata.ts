/** The rules of metadata that has a meaning for Waymark itself. Other metadata is the client's own. */
import { CNAME_KEY, IMPORT_KEY } from "../../lib/metadata-keys.ts";
import { findHostForm } from "./hosts.ts";
import { isName, nameRule, quoted } from "./names.ts";
import type { Problems } from "./problems.ts";

/** Adds the faults of a client's metadata. */
export function checkMetadata(metadata: Readonly<Record<string, string>>, problems: Problems): void {
  const { maxHostLength, maxNameLength } = problems.bounds;
  const host = metadata[CNAME_KEY];
  if (host !== undefined && findHostForm(host, maxHostLength) !== "name")
    problems.add(`metadata[${quoted(CNAME_KEY)}]`, `${quoted(host)} must be a DNS name; an address belongs into targets`);
  const importer = metadata[IMPORT_KEY];
  if (importer !== undefined && !isName(importer, maxNameLength))
    problems.add(`metadata[${quoted(IMPORT_KEY)}]`, nameRule(importer, maxNameLength, problems.bounds));
}
