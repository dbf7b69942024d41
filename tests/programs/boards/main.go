// Reads dashboards with the types that Grafana Labs generates from Grafana's schema, and says what is not in it: an unknown
// field at any depth, options of a panel and its queries among them, a wrong type, an unknown kind of panel.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

func main() {
	plugins.RegisterDefaultPlugins()
	status := 0
	for _, path := range os.Args[1:] {
		if err := check(path); err != nil {
			fmt.Printf("%s: %v\n", path, err)
			status = 1
		}
	}
	os.Exit(status)
}

func check(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var strict, board dashboard.Dashboard
	var found cog.BuildErrors
	// Without a fault it returns an empty list, which is no nil error, and so leaves panels unset: they are read again.
	if err := strict.UnmarshalJSONStrict(text); err != nil && !(errors.As(err, &found) && len(found) == 0) {
		return err
	}
	if err := json.Unmarshal(text, &board); err != nil {
		return err
	}
	for _, panel := range board.Panels {
		if panel.Panel == nil {
			continue
		}
		// Options and queries of what nobody knows would have gone unread.
		if _, known := cog.ConfigForPanelcfgVariant(panel.Panel.Type); !known {
			return fmt.Errorf("no panel is of type %q", panel.Panel.Type)
		}
		for _, target := range panel.Panel.Targets {
			if target.DataqueryType() != "prometheus" {
				query, _ := json.Marshal(target)
				return fmt.Errorf("not a query of Prometheus: %s", query)
			}
		}
	}
	return board.Validate()
}
