/** The metadata keys of an entry that have a meaning for Waymark itself. `catalog/entry/metadata.ts` has the rules of their values. */

/** A host name that DNS answers with as a CNAME, for an entry without targets (semantics.md, DNS). */
export const CNAME_KEY = "waymark.dns.cname";
/** The import that owns an entry, and may remove it. */
export const IMPORT_KEY = "waymark.import";
