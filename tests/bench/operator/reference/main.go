// The reference operator of the benchmark, and the driver that measures it and Coppice's alike.
package main

import (
	"fmt"
	"os"
)

func main() {
	commands := map[string]func([]string){"operator": operator, "drive": drive, "same": same}
	if len(os.Args) > 1 {
		if run, known := commands[os.Args[1]]; known {
			run(os.Args[2:])
			return
		}
	}
	fmt.Fprintln(os.Stderr, "usage: reference operator|drive [flags]")
	os.Exit(2)
}
