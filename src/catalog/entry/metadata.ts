/** Validates the metadata keys that Waymark itself uses. All other metadata is free for clients. */
import { METADATA_KEY } from "../../lib/bounds.ts";
import { findHostForm } from "./hosts.ts";
import { isName, nameRule, quoted } from "./names.ts";
import type { Problems } from "./problems.ts";

/** Adds the problems of a client's metadata to `problems`. */
export function checkMetadata(metadata: Readonly<Record<string, string>>, problems: Problems): void {
  const { maxHostLength, maxNameLength } = problems.bounds;
  const host = metadata[METADATA_KEY.CNAME];
  if (host !== undefined && findHostForm(host, maxHostLength) !== "name")
    problems.add(`metadata[${quoted(METADATA_KEY.CNAME)}]`, `${quoted(host)} must be a DNS name; an address belongs in targets`);
  const importer = metadata[METADATA_KEY.IMPORT];
  if (importer !== undefined && !isName(importer, maxNameLength))
    problems.add(`metadata[${quoted(METADATA_KEY.IMPORT)}]`, nameRule(importer, maxNameLength, problems.bounds));
}
