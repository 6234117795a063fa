/** The filters and the orders of lists and watches of members. */
import { PeerDesired, PeerStatus } from "../../../gen/waymark/catalog/v1/peer_pb.js";
import { PeerHealth, type PeerServiceListRequest, PeerSort } from "../../../gen/waymark/control/v1/peer_pb.js";
import { MEMBER_STATUSES } from "../../fabric/wire/messages.ts";
import { enumName } from "../../lib/enum-words.ts";
import { parseLabelSelector } from "../../lib/formats/label-selector.ts";
import { filterHash } from "../list-page.ts";
import type { MemberRow } from "./members.ts";
import { desiredOf, labelsOf, type PeerView } from "./peer-message.ts";

/** The filter fields, which the requests of `List` and `Watch` share. */
type FilterRequest = Pick<
  PeerServiceListRequest,
  "statuses" | "clusterId" | "region" | "health" | "roles" | "zone" | "version" | "labelSelector" | "desired"
>;

export interface PeerFilter {
  /** Identifies the filter. */
  readonly hash: string;
  matches(row: MemberRow): boolean;
}

/** The fields that a member must have exactly as in the request. */
const EXACT_FIELDS = ["clusterId", "region", "zone", "version"] as const;

/** Throws `invalid_argument` for an invalid selector. */
export function peerFilter(request: FilterRequest, view: PeerView): PeerFilter {
  const { statuses, health, roles, labelSelector, desired } = request;
  const texts = [...EXACT_FIELDS.map((field) => request[field]), labelSelector];
  const selects = parseLabelSelector(labelSelector, "label_selector");
  return {
    hash: filterHash("peers", ...texts, ...[statuses, health, roles, desired].map((list) => list.map(String).toSorted().join(" "))),
    matches: (row) =>
      EXACT_FIELDS.every((field) => request[field] === "" || request[field] === row[field]) &&
      isAmong(statuses, () => [PeerStatus[enumName(row.status)]]) &&
      isAmong(health, () => [healthOf(row)]) &&
      isAmong(roles, () => row.roles) &&
      isAmong(desired, () => [PeerDesired[enumName(desiredOf(row, view.control))]]) &&
      selects((key) => new Map(Object.entries(labelsOf(row, view))).get(key)),
  };
}

function isAmong<T>(wanted: readonly T[], values: () => readonly T[]): boolean {
  return wanted.length === 0 || values().some((value) => wanted.includes(value));
}

function healthOf({ status, isServing, healthScore }: MemberRow): PeerHealth {
  switch (status) {
    case "alive":
      return isServing === true && healthScore === 0 ? PeerHealth.HEALTHY : PeerHealth.DEGRADED;
    case "suspect":
    case "dead":
      return PeerHealth.UNHEALTHY;
    case "left":
      return PeerHealth.UNSPECIFIED;
  }
}

/** Sorts after all other values. */
const UNKNOWN = "~";

/** The value by which members are sorted. The texts have the same order as the values. */
const PLACES: Readonly<Record<PeerSort, (row: MemberRow) => string>> = {
  [PeerSort.UNSPECIFIED]: () => "",
  [PeerSort.NODE]: () => "",
  [PeerSort.RTT]: ({ rttMs }) => (rttMs === undefined ? UNKNOWN : padded(Math.round(rttMs * 1000))),
  [PeerSort.ZONE]: ({ zone }) => zone,
  [PeerSort.VERSION]: ({ version }) => version.replaceAll(/\d+/g, padded),
  [PeerSort.STATUS]: ({ status }) => String(MEMBER_STATUSES.indexOf(status)),
  [PeerSort.LAST_SEEN]: ({ lastSeenWallMs }) => (lastSeenWallMs === undefined ? UNKNOWN : padded(lastSeenWallMs)),
};

/** Returns the sort key of a member. It consists of ASCII, as page tokens require. */
export function placeIn(sort: PeerSort): (row: MemberRow) => string {
  const valueOf = PLACES[sort];
  return (row) => `${valueOf(row).replaceAll(/[^ -~]/g, UNKNOWN)}\0${row.nodeId}`;
}

function padded(digits: string | number): string {
  return String(digits).padStart(16, "0");
}
