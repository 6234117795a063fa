// Command coredns is CoreDNS as its own module builds it, with the plugins that the benchmark names and no others.
package main

import (
	"github.com/coredns/coredns/coremain"

	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/file"
)

func main() {
	coremain.Run()
}
