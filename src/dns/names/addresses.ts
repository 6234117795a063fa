/** An address as one DNS label. */
import { type Address, addressOf, parseIpv4 } from "../../lib/addresses.ts";

const HYPHEN = 45;
const LABEL_GROUP = /^(?:0|[1-9a-f][0-9a-f]{0,3})$/;
const IPV6_GROUPS = 8;

/** The label of an address: `10-0-0-1`, or all eight groups, `2001-db8-0-0-0-0-0-1`. */
export function addressLabel(address: Address): string {
  if (address.length === 4) return address.join("-");
  return groupsOf(address)
    .map((group) => group.toString(16))
    .join("-");
}

/** The reverse of `addressLabel`; undefined for every label that `addressLabel` does not make. */
export function parseAddressLabel(label: string): Address | undefined {
  const v4 = parseIpv4(label, HYPHEN);
  if (v4 !== undefined) return v4;
  const parts = label.split("-");
  if (parts.length !== IPV6_GROUPS || !parts.every((part) => LABEL_GROUP.test(part))) return undefined;
  return addressOf(parts.map((part) => Number.parseInt(part, 16)));
}

function groupsOf(bytes: Address): number[] {
  const groups: number[] = [];
  for (let i = 0; i < bytes.length; i += 2) groups.push(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0));
  return groups;
}
