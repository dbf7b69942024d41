package main

import (
	"context"
	"encoding/json"
	"flag"
	"os"

	batchv1 "k8s.io/api/batch/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

// S does what the reference does, to Coppice's PruneJobs: the Job and the status that Coppice would write.
type S struct {
	client.Client
	job, status []byte
}

func coppicePruneJob() *unstructured.Unstructured {
	item := &unstructured.Unstructured{}
	item.SetAPIVersion("coppice.dev/v1alpha1")
	item.SetKind("PruneJob")
	return item
}

func (r *S) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	item := coppicePruneJob()
	if err := r.Get(ctx, req.NamespacedName, item); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	err := r.Get(ctx, req.NamespacedName, &batchv1.Job{})
	if apierrors.IsNotFound(err) {
		err = r.create(ctx, req, item)
	}
	if err != nil {
		return ctrl.Result{}, err
	}
	base, status := item.DeepCopy(), map[string]any{}
	if err := json.Unmarshal(r.status, &status); err != nil {
		return ctrl.Result{}, err
	}
	item.Object["status"] = status
	patch := client.MergeFrom(base)
	if data, err := patch.Data(item); err == nil && string(data) == "{}" {
		return ctrl.Result{}, nil
	}
	return ctrl.Result{}, client.IgnoreNotFound(r.Status().Patch(ctx, item, patch))
}

func (r *S) create(ctx context.Context, req ctrl.Request, owner *unstructured.Unstructured) error {
	job := &batchv1.Job{}
	if err := json.Unmarshal(r.job, job); err != nil {
		return err
	}
	job.Name, job.Namespace, job.OwnerReferences = req.Name, req.Namespace, nil
	if err := controllerutil.SetControllerReference(owner, job, r.Scheme()); err != nil {
		return err
	}
	if err := r.Create(ctx, job); !apierrors.IsAlreadyExists(err) {
		return err
	}
	return nil
}

func same(args []string) {
	fs := flag.NewFlagSet("same", flag.ExitOnError)
	kc := fs.String("kubeconfig", "", "")
	ns := fs.String("namespace", "default", "the only one that is watched")
	jobFile := fs.String("job", "", "JSON of the Job of each")
	statusFile := fs.String("status", "", "JSON of the status of each")
	fs.Parse(args)
	ctrl.SetLogger(zap.New(zap.UseDevMode(false)))
	cfg, err := clientcmd.BuildConfigFromFlags("", *kc)
	must(err)
	cfg.QPS = -1
	job, err := os.ReadFile(*jobFile)
	must(err)
	status, err := os.ReadFile(*statusFile)
	must(err)
	scheme := runtime.NewScheme()
	must(clientgoscheme.AddToScheme(scheme))
	mgr, err := ctrl.NewManager(cfg, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Client: client.Options{Cache: &client.CacheOptions{Unstructured: true}},
		Cache:  cache.Options{DefaultNamespaces: map[string]cache.Config{*ns: {}}},
	})
	must(err)
	must(ctrl.NewControllerManagedBy(mgr).For(coppicePruneJob()).Owns(&batchv1.Job{}).
		WithOptions(controller.Options{MaxConcurrentReconciles: 16}).Complete(&S{mgr.GetClient(), job, status}))
	must(mgr.Start(ctrl.SetupSignalHandler()))
}
