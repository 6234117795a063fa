/** What border links need of the summaries that their node holds. */
import type { HeldSummaries } from "../../summary/held/summaries.ts";

export type BorderSummaries = Pick<
  HeldSummaries,
  | "announce"
  | "announcements"
  | "beacons"
  | "changesSince"
  | "digest"
  | "find"
  | "letGo"
  | "list"
  | "regionOf"
  | "resumedCount"
  | "revision"
  | "take"
  | "takeBeacon"
>;
